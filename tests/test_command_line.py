"""The command `deepdefense`: each exit status, each refusal in one sentence before any work, and a stopped run that goes on."""

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from deepdefense import attacks, evaluate, loading
from deepdefense.attacks import suites
from deepdefense.command_line import cost, main, run
from deepdefense.data import DataError
from deepdefense.evaluation import one_attack
from deepdefense.storage import files

DEFENCE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes=4):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.head = nn.Linear(25, classes)
        self.head.weight.data = torch.randn(classes, 25, generator=generator)
        self.head.bias.data = -self.head.weight.data.sum(1) / 2
    def forward(self, x):
        return self.head(x.flatten(1))

def images():
    return torch.rand(120, 1, 5, 5, generator=torch.Generator().manual_seed(1))

def make():
    model = Net()
    return model, images(), model(images()).argmax(1)

def backwards():
    model, x, y = make()
    return model, x, 3 - y

def probabilities():
    model, x, y = make()
    return nn.Sequential(model, nn.Softmax(1)), x, y

def grey_levels():
    model, x, y = make()
    return model, 255 * x, y

def normalised():
    model, x, y = make()
    return model, (x - 0.5) / 0.25, y

def too_many_labels():
    model, x, y = make()
    return model, x, y + 1

def other_shape():
    return Net(), "digits"

def guesses():
    model, x, y = make()
    return model, x, torch.arange(len(y)) % 4

def other_order():
    model, x, y = make()
    return model, x, torch.cat([y[:1], (y[1:] + 1) % 4])

def too_few_labels():
    model, x, y = make()
    return model, x, y[:60]

def too_few_images():
    model, x, y = make()
    return model, x[:60], y

def a_single_image():
    model, x, y = make()
    return model, x[0], y[0]

def channels_last():
    model, x, y = make()
    return nn.Sequential(nn.Conv2d(1, 1, 1), model), x.permute(0, 2, 3, 1), y

def raises():
    return 1 / 0
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my_defence.py"
    path.write_text(DEFENCE)
    return path


def command(file, name="make", **options):
    given = {"eps": "0.02", "suites": "gradient", "images": "40"} | options
    words = [word for key, value in given.items() if value is not None for word in (f"--{key.replace('_', '-')}", str(value))]
    return ["evaluate", f"{file}:{name}", *words]


def said(capsys) -> str:
    """The last line on stderr."""
    return capsys.readouterr().err.strip().splitlines()[-1]


def numbers(summary: dict) -> dict:
    """A record without what differs from run to run: seconds and the date."""
    text = re.sub(r'"(seconds|seconds_per_image)": [^,}]+', "", json.dumps(summary))
    return text.replace(summary["environment"]["date"], "")


def test_the_same_as_evaluate(file, tmp_path, capsys):
    files_ = {"html": tmp_path / "r.html", "json": tmp_path / "r.json"}
    assert main.main(command(file, **files_)) == main.OK
    out, err = capsys.readouterr()
    found = json.loads(files_["json"].read_text())
    loaded = loading.load(f"{file}:make")
    report = evaluate(loaded.model, loaded.x[:40], loaded.y[:40], eps=0.02, suites=["gradient"], progress=False)
    mine = report.summary()
    assert found["worst_case"] == mine["worst_case"] and found["n"] == 40 and found["clean"]["accuracy"] == 1
    assert 0 < found["worst_case"]["accuracy"] < 1, "else nothing is told apart"
    assert {key: row["succeeded"] for key, row in found["attacks"].items()} == {k: row["succeeded"] for k, row in mine["attacks"].items()}
    assert (found["name"], found["dataset"], found["number_of_classes"]) == ("my_defence.py:make", "own images", 4)
    assert f"robust accuracy {100 * found['worst_case']['accuracy']:.1f} [" in out and "n = 40" in out
    assert "4 attacks on 40 images" in err and "forward passes" in err and f"wrote {files_['html']}" in err
    assert err.index("4 attacks on 40") < err.index("PGD-20 margin"), "the cost is said before the first attack"
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["my_defence.py", "r.html", "r.json"]


@pytest.mark.parametrize("spelt", ["1/50", "0.02", "2e-2"])
def test_eps_is_spelt_in_several_ways(file, tmp_path, spelt):
    assert main.main(command(file, eps=spelt, images="5", json=tmp_path / "r.json")) == 0
    assert json.loads((tmp_path / "r.json").read_text())["eps"] == 0.02


BAD = {
    "eps: levels": ({"eps": "8"}, "--eps must be at most 1 for linf.*got 8; for 8 grey levels of 255 write 8/255"),
    "eps: zero": ({"eps": "0"}, "eps must be above 0"),
    "eps: not a number": ({"eps": "8/0"}, "--eps must be a number, such as 8/255 or 0.03; got '8/0'"),
    "norm": ({"norm": "l1"}, "--norm must be one of linf, l2; got 'l1'"),
    "suites": ({"suites": "standard,magic"}, "suites must be one of gradient, .*; got 'magic'"),
    "suites: none for the norm": ({"norm": "l2"}, "suite 'gradient' has no attacks for norm 'l2'"),
    "mode": ({"mode": "fast"}, "--mode must be one of full, worst_case; got 'fast'"),
    "loss": ({"training_loss": "huber"}, "--training-loss must be one of mse, ce"),
    "images: none": ({"images": "0"}, "--images must be a whole number of at least 1"),
    "images: too many": ({"images": "121"}, "--images must be at most 120, the number of images of own images; got 121"),
    "seed": ({"seed": "1.5"}, "--seed must be a whole number"),
    "device": ({"device": "cuda:7"}, "--device cuda:7 is not there; this machine has"),
    "device: no such": ({"device": "tpu"}, "--device must be auto, cpu"),
    "masking": ({"masking": "all"}, "--masking must be one of quick, full; got 'all'"),
    "masking: norm": ({"masking": "quick", "norm": "l2", "suites": None}, "--masking is for --norm linf; got l2"),
    "masking: mode": ({"masking": "quick", "mode": "worst_case"}, "--masking needs every attack on every image, --mode full"),
    "masking: eps": ({"masking": "quick", "eps": "0.5"}, "--masking needs --eps below 0.5"),
    "substitutes": ({"substitute_steps": "9"}, "--substitute-steps are for the networks of --masking"),
    "reported": ({"reported": "152"}, "--reported must be a percentage from 0 to 100; got 152"),
    "mean alone": ({"mean": "0.5"}, "mean and std must be given together"),
    "std: zero": ({"mean": "0.5", "std": "0"}, "std above 0"),
    "classes": ({"classes": "10"}, "classes are for torchvision:NAME and timm:NAME"),
    "data": ({"data": "imagenet"}, "data must be one of cifar10, fashion_mnist, digits, or an .npz file"),
    "data: no such file": ({"data": "none.npz"}, "none.npz cannot be read as npz"),
    "data: of another shape": ({"data": "digits"}, "the model failed on images of shape"),
    "weights": ({"weights": "none.pt"}, "there is no file none.pt"),
    "html: a folder": ({"html": "/"}, "--html must be a file to write, got '/', which is a folder"),
    "html: nowhere": ({"html": "/proc/none/r.html"}, "--html: could not write /proc/none/r.html: "),
    "json: nowhere": ({"json": "/proc/none/r.json"}, "--json: could not write /proc/none/r.json: "),
    "folder: a file": ({"folder": __file__}, "folder must be the path of a folder"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_argument_is_one_sentence_before_any_work(file, tmp_path, monkeypatch, capsys, name):
    options, sentence = BAD[name]
    monkeypatch.setattr(run, "evaluate", lambda *_, **__: pytest.fail("work began"))
    assert main.main(command(file, **options)) == main.BAD_ARGUMENTS
    assert re.search(f"^deepdefense: .*{sentence}", said(capsys))
    assert [path.name for path in tmp_path.iterdir() if path.suffix != "" or path.is_file()] == ["my_defence.py"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("missing", "has no function 'missing'"),
        ("Net", "alone; or say on which images to test it: --data digits"),
        ("probabilities", "returns probabilities"),
        ("grey_levels", r"must lie in \[0, 1\].*Put scaling and normalisation inside the model"),
        ("normalised", r"must lie in \[0, 1\].*Put scaling and normalisation inside the model"),
        ("too_many_labels", "class indices from 0 to 3; these range from 1 to 4"),
        ("other_shape", "the model failed on images of shape"),
        ("backwards", "gets none of the 40 images right, so there is nothing to attack: are they scaled"),
        ("other_order", "gets 1 of 40 clean images right, fewer than by guessing among 4 classes: are they scaled"),
        ("too_few_labels", r"y must hold one class index for each of 120 samples, .*got shape \(60,\)"),
        ("too_few_images", r"y must hold one class index for each of 60 samples, .*got shape \(120,\)"),
        ("a_single_image", r"x must hold images \(N, C, H, W\), got shape \(1, 5, 5\)"),
        ("channels_last", r"the model failed on images of shape .*; images \(N, H, W, C\) become \(N, C, H, W\) by x.permute"),
        ("raises", "failed with ZeroDivisionError: division by zero"),
    ],
)
def test_a_defence_that_cannot_be_worked_with_is_refused(file, capsys, name, sentence):
    assert main.main(command(file, name)) == main.BAD_ARGUMENTS
    assert re.search(f"^deepdefense: .*{sentence}", said(capsys))


def test_a_data_set_is_fetched_when_all_else_is_known_to_be_right(file, capsys, monkeypatch):
    monkeypatch.setattr(loading.images.data, "load", lambda name: pytest.fail(f"{name} was fetched"))
    for defence, more, sentence in (
        ("torchvision:resnet81", {}, "torchvision has no classifier 'resnet81'"),
        ("torchvision:resnet18", {"weights": "none.pt"}, "there is no file none.pt"),
        (f"{file}:maker", {}, "has no function 'maker'; it has Net, images, make"),
    ):
        words = [word for name, value in {"data": "cifar10", **more}.items() for word in (f"--{name}", value)]
        assert main.main(["evaluate", defence, "--eps", "0.02", *words]) == main.BAD_ARGUMENTS
        assert sentence in said(capsys)


@pytest.mark.parametrize(
    ("norm", "suites", "first", "others"),
    [
        ("linf", None, "gradient", "standard,adaptive,minimum_norm"),
        ("linf", "standard,paper", "paper", "standard,adaptive,minimum_norm"),
        ("l2", None, "paper", "standard,minimum_norm"),
    ],
)
def test_a_library_that_is_missing_is_said_before_the_defence_is_made(file, capsys, monkeypatch, norm, suites, first, others):
    monkeypatch.setitem(sys.modules, "torchattacks", None)
    assert main.main(command(file, "raises", norm=norm, suites=suites)) == main.BAD_ARGUMENTS
    assert re.search(
        f"suite '{first}': torchattacks is not installed; run `pip install .*; or leave it out, .* --suites {others}$", said(capsys)
    )
    assert main.main(command(file, "raises", norm=norm, suites=others)) == main.BAD_ARGUMENTS and "ZeroDivisionError" in said(capsys)


def test_a_refusal_is_one_line_whatever_a_library_says(file, capsys, monkeypatch):
    def fails(*_, **__):
        raise DataError("cifar10 is not here (tried:\n  this\n  that\n). Connect")

    monkeypatch.setattr(run, "load", fails)
    assert main.main(command(file)) == main.BAD_ARGUMENTS
    assert capsys.readouterr().err == "deepdefense: cifar10 is not here (tried: this that ). Connect\n"


def test_a_model_that_guesses_is_let_in_with_a_caution(file, tmp_path, capsys):
    assert main.main(command(file, "guesses", html=tmp_path / "r.html", suites="gradient")) == 0
    assert re.search(
        r"caution: the model gets \d+ of 40 clean images right, no more than guessing among 4 classes", capsys.readouterr().err
    )
    assert "no more than guessing among 4 classes" in (tmp_path / "r.html").read_text()


def test_what_argparse_refuses_and_shows(capsys):
    assert main.main(["evaluate", "x.py:make"]) == 2 and "--eps" in capsys.readouterr().err
    assert main.main([]) == 2 and main.main(["evaluat"]) == 2 and main.main(["suites", "--norm", "l0"]) == 2
    capsys.readouterr()
    assert main.main(["evaluate", "--help"]) == 0
    shown = capsys.readouterr().out
    for words in ("exit status:", "examples:", "8/255", "torchvision:resnet18", "--masking", "goes on where it was", "  2  an argument"):
        assert words in shown
    assert max(map(len, shown.splitlines())) <= 140
    assert main.main(["--version"]) == 0 and "deepdefense" in capsys.readouterr().out


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_suites_are_listed(capsys, norm):
    assert main.main(["suites", "--norm", norm]) == 0
    shown = capsys.readouterr().out
    for name in suites.SUITES:
        assert (f"\n{name}\n" in shown) == bool(norm == "linf" or name not in ("gradient", "adaptive"))
    assert re.search(r"Square +\d,\d{3}  autoattack|square|Square", shown)


def test_an_attack_that_breaks_its_promise_fails_the_run(file, tmp_path, monkeypatch, capsys):
    def leaves(model, x, y, *, eps, seed=0):
        return x + 2

    monkeypatch.setitem(suites.SUITES, "gradient", lambda *_: {"leaves": leaves})
    assert main.main(command(file, html=tmp_path / "r.html")) == main.FAILED
    assert re.search("^deepdefense: the run failed: leaves|gradient/leaves", said(capsys)) and not (tmp_path / "r.html").exists()


def test_checks_that_fail_take_no_finished_attack_with_them(file, tmp_path, monkeypatch, capsys):
    def fails(*_arguments, **_settings):
        raise ValueError("the checks cannot be made")

    monkeypatch.setattr(run.masking, "report", fails)
    made = {"json": tmp_path / "r.json", "html": tmp_path / "r.html"}
    assert main.main(command(file, masking="quick", **made)) != main.OK
    assert "the checks cannot be made" in said(capsys)
    found = json.loads(made["json"].read_text())
    assert found["n"] == 40 and found["masking"] is None and "worst case" in made["html"].read_text()


@pytest.mark.parametrize("where", ["when it is loaded", "when it is called"])
def test_a_defence_file_that_parses_the_command_line_is_named(tmp_path, capsys, where):
    ends = "import argparse\n{0}argparse.ArgumentParser().parse_args(['--lr', '1'])\n"
    text = ends.format("") if where == "when it is loaded" else "def make():\n    " + ends.format("    ")
    path = tmp_path / "script.py"
    path.write_text(text + ("def make():\n    pass\n" if where == "when it is loaded" else ""))
    assert main.main(command(path)) == main.BAD_ARGUMENTS
    assert re.search(r"it ends the program \(SystemExit\), as argparse does .* if __name__ == '__main__'", capsys.readouterr().err)


def test_a_full_disk_fails_the_run(file, tmp_path, monkeypatch, capsys):
    def full(path, record):
        raise files.ResultsError(f"could not write {path}: No space left on device")

    monkeypatch.setattr(files, "write_json", full)
    assert main.main(command(file, json=tmp_path / "r.json")) == main.FAILED
    assert "No space left" in said(capsys)


def test_a_stopped_run_goes_on_and_ends_with_the_same_report(file, tmp_path, monkeypatch, capsys):
    kept, alone = tmp_path / "kept", tmp_path / "alone"
    options = {"images": "120", "suites": "gradient,minimum_norm"}
    assert main.main(command(file, **options, folder=alone, json=tmp_path / "alone.json")) == 0
    true, calls = one_attack._attack_chunk, []

    def stopped(*arguments, **rest):
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return true(*arguments, **rest)

    monkeypatch.setattr(one_attack, "_attack_chunk", stopped)
    both = {**options, "folder": kept, "json": tmp_path / "kept.json", "html": tmp_path / "kept.html"}
    assert main.main(command(file, **both)) == main.STOPPED
    assert said(capsys) == f"deepdefense: stopped; the same command goes on from {kept}" and not (tmp_path / "kept.json").exists()
    assert main.main(command(file, **both)) == main.OK
    assert len(calls) == 4 + 12 - 3, "six attacks on two chunks, three of which were finished"
    assert "3 of 12 results are read from" in capsys.readouterr().err
    first, second = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("alone", "kept"))
    assert numbers(first) == numbers(second)
    made = (tmp_path / "kept.html").read_bytes()
    assert main.main(command(file, **both)) == 0 and (tmp_path / "kept.html").read_bytes() == made
    assert main.main(command(file, **both | {"eps": "0.03"})) == main.BAD_ARGUMENTS
    assert str(kept) in said(capsys)


def test_weights_go_into_a_class_and_images_come_from_a_file(file, tmp_path):
    spec = loading.load(f"{file}:make")
    x, y = spec.x.numpy(), spec.y.numpy()
    np.savez(tmp_path / "own.npz", images=x, labels=y)
    with torch.no_grad():
        spec.model.head.weight.mul_(-1), spec.model.head.bias.mul_(-1)
    torch.save({"state_dict": {f"module.{k}": v for k, v in spec.model.state_dict().items()}}, tmp_path / "net.pt")
    found = loading.load(f"{file}:Net", weights=tmp_path / "net.pt", images=str(tmp_path / "own.npz"))
    assert found.dataset == "own.npz" and found.weights == "net.pt" and torch.equal(found.x, spec.x)
    assert torch.equal(found.model(found.x), spec.model(spec.x))
    scaled = loading.load(f"{file}:Net", images=str(tmp_path / "own.npz"), mean=[0.5], std=[0.25])
    assert torch.allclose(scaled.model(spec.x), loading.load(f"{file}:make").model((spec.x - 0.5) / 0.25), atol=1e-5)
    with pytest.raises(ValueError, match="does not fit Net: it lacks head.weight, head.bias; the network has no x"):
        torch.save({"x": torch.zeros(3)}, tmp_path / "other.pt")
        loading.load(f"{file}:Net", weights=tmp_path / "other.pt", images="digits")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="broken.safetensors cannot be read as a state dict"):
        loading.load(f"{file}:Net", weights=tmp_path / "broken.safetensors", images="digits")


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"a": np.zeros(3)}, "must hold arrays x and y, or images and labels, or x_test and y_test; it holds a"),
        ({"x": np.zeros((4, 8, 8, 3), "f4"), "y": np.zeros(4, int)}, r"looks like \(N, H, W, C\)"),
        ({"x": np.array(["a"]), "y": np.zeros(1, int)}, "images must be numbers"),
        ({"x": np.zeros((4, 3, 8, 8), "f2"), "y": np.zeros(4, int)}, "float32 or float64"),
    ],
)
def test_a_file_that_holds_no_images(file, tmp_path, arrays, sentence):
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(ValueError, match=sentence):
        loading.load(f"{file}:Net", images=str(tmp_path / "own.npz"))


def test_a_network_of_torchvision_with_weights(tmp_path):
    import safetensors.torch
    import torchvision

    torch.manual_seed(0)
    net = torchvision.models.squeezenet1_1(num_classes=7).eval()
    safetensors.torch.save_file(net.state_dict(), tmp_path / "net.safetensors")
    np.savez(tmp_path / "own.npz", x=np.random.default_rng(0).random((2, 3, 32, 32), "f4"), y=np.zeros(2, int))
    given = {"images": str(tmp_path / "own.npz"), "weights": tmp_path / "net.safetensors"}
    scaling = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    found = loading.load("torchvision:squeezenet1_1", **given, **scaling)
    mean, std = (torch.tensor(scaling[name]).view(3, 1, 1) for name in ("mean", "std"))
    assert torch.allclose(found.model(found.x), net((found.x - mean) / std), atol=1e-5) and found.model(found.x).shape == (2, 7)
    for change, sentence in [
        ({"mean": None, "std": None}, "has no scaling of the images inside; say which one it was trained with: --mean 0.485"),
        ({"weights": None}, "comes without weights, and an untrained network is no defence: give --weights FILE"),
        ({"classes": 10}, "does not fit SqueezeNet: classifier.1.weight is "),
    ]:
        with pytest.raises(ValueError, match=sentence):
            loading.load("torchvision:squeezenet1_1", **given | scaling | change)
    with pytest.raises(ValueError, match="torchvision has no classifier 'resnet19'"):
        loading.load("torchvision:resnet19", **given, **scaling)


def test_timm_is_optional(tmp_path, monkeypatch):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    torch.save(net.state_dict(), tmp_path / "net.pt")
    given = {"images": "digits", "weights": tmp_path / "net.pt", "mean": [0.0], "std": [1.0]}
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match="timm:tiny needs the package timm, which is not installed: pip install timm"):
        loading.load("timm:tiny", **given)
    asked = {}
    made = SimpleNamespace(list_models=lambda: ["tiny"], create_model=lambda name, **options: asked.update(options) or net)
    monkeypatch.setitem(sys.modules, "timm", made)
    assert loading.load("timm:tiny", **given).model.network is net and asked == {"pretrained": False, "num_classes": 10}
    with pytest.raises(ValueError, match="timm has no model 'large'"):
        loading.load("timm:large", **given)


def test_the_cost_is_that_of_the_settings(file):
    found = loading.load(f"{file}:make")
    x, y = found.x[:30], found.y[:30]
    chosen = {"one": {"FGSM": attacks.fgsm}, "two": {"mine": lambda model, x, y, *, eps, seed=0: x}}
    known = cost.estimate(found.model, x, y, {"one": chosen["one"]}, eps=0.1, batch=30)
    assert (known.attacks, known.images, known.passes, known.exact) == (1, 30, 30, True) and known.seconds > 0
    about = cost.estimate(found.model, x, y, chosen, eps=0.1, batch=30)
    assert not about.exact and "about" in about.words and about.attacks == 2
    assert [cost.duration(s) for s in (0.2, 40, 600, 9000)] == ["1 s", "40 s", "10 min", "2.5 h"]


def test_the_package_is_the_command_too():
    """Where the script is not in the path, `python -m deepdefense` does the same."""
    ended = subprocess.run([sys.executable, "-m", "deepdefense", "suites", "--norm", "l0"], capture_output=True, text=True)
    assert ended.returncode == 2 and ended.stderr.startswith("deepdefense: --norm must be")
