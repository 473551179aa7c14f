"""The evaluation protocol: per-image worst case, the same for every batch size, whole after a kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from defences import Linear, Masked, around_grey, labelled, slow, small_images, steepest
from nets import global_random_state, hooks
from torch import nn

import deepdefense
from deepdefense import attacks
from deepdefense.attacks import AttackError, autoattack
from deepdefense.attacks.contract import check_output
from deepdefense.cost import count_passes
from deepdefense.evaluation import one_attack, protocol, standard_suite
from deepdefense.evaluation.report import Report, wilson
from deepdefense.evaluation.sliced_model import Sliced, in_slices
from deepdefense.losses import margin
from deepdefense.storage import code_files, files, resumable
from deepdefense.storage.files import ResultsError, read_json
from deepdefense.storage.resumable import Pieces, fingerprint, model_fingerprint

FEW = {"own": {"FGSM": attacks.fgsm, "PGD": partial(attacks.loss_pgd, steps=8), "near": steepest}}


@pytest.fixture(autouse=True)
def short_autoattack(monkeypatch):
    """AutoAttack with few steps, for time."""
    monkeypatch.setattr(standard_suite, "standard", partial(standard_suite.standard, steps=3, queries=10))


def evaluate(model, x, y, **options):
    return deepdefense.evaluate(model, x, y, **({"eps": 0.02, "suites": FEW, "progress": False, "chunk": 5} | options))


def without_time(summary):
    """The summary but for what is different each time."""
    summary = json.loads(json.dumps(summary))
    summary.pop("taken", None)
    del summary["environment"]
    for row in summary["attacks"].values():
        del row["seconds"], row["seconds_per_image"], row["cost"]["seconds"]
    return summary


def test_linear_model_exactly():
    """Robust exactly where the boundary is farther than eps; a minimum-norm attack's distance is that to the
    boundary."""
    model = Linear(classes=2)
    x, y = labelled(model, around_grey(20), wrong=(4, 9))
    distance = model.distance(x, model(x).argmax(1), "linf")
    eps = distance.median().item() * 1.02
    report = evaluate(model, x, y, eps=eps)
    right = np.ones(20, bool)
    right[[4, 9]] = False
    clear = ((distance / eps - 1).abs() > 1e-3).numpy()
    assert (report.clean == right).all() and clear.sum() >= 18
    for key in ("own/FGSM", "own/PGD"):
        assert (report.robust(key) == right & (distance > eps).numpy())[clear].all()
    l2 = model.distance(x, y, "l2").numpy()
    assert np.allclose(report.distance("own/near", "l2"), 1.02 * l2[right], rtol=1e-6)
    assert report.summary()["attacks"]["own/near"]["distance"]["median"] is not None
    summary = report.summary()
    assert summary["worst_case"]["accuracy"] == report.robust().mean() == (right & (distance > eps).numpy()).mean()
    assert summary["worst_case"]["low"] < summary["worst_case"]["accuracy"] < summary["worst_case"]["high"]
    assert summary["clean"] == {"accuracy": 0.9, **dict(zip(("low", "high"), wilson(18, 20), strict=True))}


def moves(which):
    """An attack that pushes the images `which` of its chunk over the boundary and leaves the others alone."""

    def attack(model, x, y, *, eps, seed=0):
        x_adv = attacks.fgsm(model, x, y, eps=eps)
        mask = torch.zeros(len(x), dtype=torch.bool)
        mask[which] = True
        return torch.where(mask.view(-1, 1, 1, 1), x_adv, x)

    return attack


def test_worst_case_is_per_image():
    model = Linear(classes=2)
    x, y = labelled(model, around_grey(10))
    eps = 2 * model.distance(x, y, "linf").max().item()
    suites = {"one": {"first": moves([0, 1, 2])}, "two": {"second": moves([2, 3])}}
    report = evaluate(model, x, y, eps=eps, suites=suites, chunk=10)
    assert report.robust("one/first").sum() == 7 and report.robust("two/second").sum() == 8
    assert report.robust().tolist() == [False] * 4 + [True] * 6
    summary = report.summary()
    assert summary["suites"]["one"]["accuracy"] == 0.7 and summary["worst_case"]["accuracy"] == 0.6
    missed = report.outcomes["one/first"]
    assert np.isinf(missed.linf[3:]).all() and np.isfinite(missed.linf[:3]).all() and (missed.loss[:3] > 0).all()
    assert (missed.loss[3:] < 0).all() and (missed.prediction[3:] == y[3:].numpy()).all()


def test_minimum_norm_counts_within_eps_only_and_failures_are_infinite():
    model = Linear(classes=2)
    x, y = labelled(model, around_grey(10))
    distance = model.distance(x, y, "linf").numpy()

    def some(model, x, y, *, seed=0):
        x_adv = steepest(model, x, y)
        x_adv[::2] = x[::2]  # finds nothing there
        return x_adv

    report = evaluate(model, x, y, eps=float(np.median(distance)), suites={"near": {"some": some}}, chunk=10)
    outcome = report.outcomes["near/some"]
    assert np.isinf(outcome.linf[::2]).all() and np.isfinite(outcome.linf[1::2]).all() and not outcome.success[::2].any()
    assert (outcome.success == (outcome.linf <= report.about["eps"] + 1e-6)).all()
    quartiles = report.summary()["attacks"]["near/some"]["distance"]
    assert quartiles["q75"] is None and quartiles["q25"] == pytest.approx(np.sort(outcome.linf)[2])


def corners(model, x, y, *, eps, seed=0):
    """The worst of four corners of the ball, drawn with a step that is exact in binary."""
    best, value = x, torch.full((len(x),), -torch.inf, dtype=x.dtype)
    for _ in range(4):
        candidate = (x + eps * torch.randint(0, 2, x.shape).to(x.dtype).mul(2).sub(1)).clamp(0, 1)
        loss = margin(model(candidate), y)
        best = torch.where((loss > value).view(-1, 1, 1, 1), candidate, best)
        value = torch.maximum(loss, value)
    return best


def test_same_for_every_batch_size_bit_for_bit(tmp_path):
    """A model without rounding (whole weights, images in steps of 1/64): the files are the same whatever the batch size."""
    model = Linear(classes=4)
    with torch.no_grad():
        model.W.mul_(2).round_()
        model.b.copy_(-model.W.sum(1) / 2)
    x = (around_grey(14, spread=0.3) * 64).round() / 64
    x, y = labelled(model, x, wrong=(3,))
    pgd = partial(attacks.loss_pgd, steps=6, random_start=False)
    suites = {"own": {"FGSM": attacks.fgsm, "PGD": pgd, "corners": corners}}
    records = {}
    for size in (1, 2, 3, 5, 50):
        report = evaluate(model, x, y, eps=1 / 32, suites=suites, batch_size=size, folder=tmp_path / str(size))
        assert 0 < report.robust().sum() < 13 and 0 < report.outcomes["own/corners"].success.sum()
        summary = without_time(report.summary())
        assert summary.pop("sliced_to") == (size if size < 5 else None)
        records[size] = (tmp_path / str(size) / "report.parquet").read_bytes(), summary
    assert all(record == records[50] for record in records.values())


def test_same_for_every_batch_size_but_for_rounding():
    """A net in single precision: the same images broken, the same distances up to rounding, the same work."""
    model, x, y = small_images(14)
    suites = [{"own": {"FGSM": attacks.fgsm, "PGD": partial(attacks.loss_pgd, steps=4)}}, "standard"]
    whole, sliced = (evaluate(model, x, y, suites=suites, batch_size=size) for size in (50, 2))
    assert 0 < whole.robust().sum() < whole.clean.sum()
    for key, outcome in sliced.outcomes.items():
        other = whole.outcomes[key]
        assert (outcome.attacked == other.attacked).all() and (outcome.success == other.success).all()
        assert all(outcome.cost[count] == other.cost[count] for count in ("images", "forward", "backward"))
        for name in ("linf", "l2", "loss"):
            assert np.allclose(getattr(outcome, name), getattr(other, name), atol=1e-4, equal_nan=True)


def test_seed_and_chunk_decide_and_other_seeds_differ():
    model, x, y = small_images(14)
    first, again, other = (evaluate(model, x, y, seed=seed) for seed in (0, 0, 1))
    assert first.table().equals(again.table()) and not first.table().equals(other.table())
    assert (first.outcomes["own/FGSM"].loss == other.outcomes["own/FGSM"].loss)[first.clean].all(), "FGSM draws nothing"


def test_chunks_have_noise_of_their_own():
    model, x, y = small_images(4, wrong=())
    x, y = x[:1].repeat(10, 1, 1, 1), y[:1].repeat(10)
    drawn = []

    def draws(model, x, y, *, eps, seed=0):
        drawn.append(torch.rand(1).item())
        return x

    evaluate(model, x, y, suites={"own": {"draws": draws}}, chunk=5)
    assert len(set(drawn)) == 2


def test_attacks_get_the_images_that_are_right_chunk_by_chunk():
    model, x, y = small_images(14, wrong=(3, 4))
    given = []

    def looks(model, x, y, *, eps, seed=0):
        given.append(x)
        return x

    evaluate(model, x, y, suites={"own": {"looks": looks}}, chunk=5, batch_size=2)
    assert [len(part) for part in given] == [5, 5, 2]
    assert torch.equal(torch.cat(given), x[[i for i in range(14) if i not in (3, 4)]])


def test_slices_bound_what_the_model_sees_and_keep_the_gradient():
    model, x, y = small_images(7)
    model, x = model.double(), x.double().requires_grad_()
    sizes = []
    handle = model.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    sliced = Sliced(model, 3)
    loss = sliced(x)[torch.arange(7), y]
    (sliced_gradient,) = torch.autograd.grad(loss.sum(), x)
    handle.remove()
    (gradient,) = torch.autograd.grad(model(x)[torch.arange(7), y].sum(), x)
    assert max(sizes) == 3 and torch.allclose(gradient, sliced_gradient, atol=1e-14)
    assert in_slices(model, 7, 7) is model and isinstance(in_slices(model, 6, 7), Sliced)
    assert model_fingerprint(sliced) == model_fingerprint(model)


def test_attacks_inside_the_model_are_refused_in_slices():
    from deepdefense import taps

    def reads_layers(model, x, y, *, eps, seed=0):
        with taps.record(model, taps.tap_names(model)):
            model(x)
        return x

    model, x, y = small_images(6, wrong=())
    suites = {"own": {"layers": reads_layers}}
    with pytest.raises(RuntimeError, match="batch_size must be at least 5") as raised:
        evaluate(model, x, y, suites=suites, chunk=5, batch_size=2)
    assert "while running own/layers on images 0 to 4" in raised.value.__notes__
    evaluate(model, x, y, suites=suites, chunk=5)


def test_parquet_and_json(tmp_path):
    model, x, y = small_images(9, wrong=(2, 6))
    about = {"name": "small", "dataset": "noise", "reported": "71.2", "venue": "here"}
    report = evaluate(model, x, y, eps=8 / 255, suites=[FEW, "standard"], folder=tmp_path, about=about)
    table = pq.read_table(tmp_path / "report.parquet").to_pydict()
    assert table["index"] == list(range(9)) and table["label"] == y.tolist()
    assert table["prediction"] == report.prediction.tolist() and table["robust"] == report.robust().tolist()
    for key in ("own/FGSM", "own/PGD", "own/near", "standard/APGD-CE", "standard/Square"):
        for field in ("success", "prediction", "linf", "l2", "loss"):
            column = table[f"{key}/{field}"]
            assert column[2] is None and column[6] is None and (key.startswith("standard") or column.count(None) == 2)
        for success, distance, loss in zip(*(table[f"{key}/{f}"] for f in ("success", "linf", "loss")), strict=True):
            if success is not None:
                assert (distance <= 8 / 255 + 1e-6) == success and (loss >= 0) == (distance < np.inf)
    record = json.loads((tmp_path / "report.json").read_text())
    assert record == report.summary() and record["n"] == 9 and record["kind"] == "attacks" and record["name"] == "small"
    assert {"commit", "date", "packages", "device"} <= set(record["environment"])
    assert record["environment"]["packages"]["pyautoattack"]
    standard = report.robust("standard/Square").mean()
    worst = report.robust().mean()
    bench = record["robustbench"]
    assert bench["clean_acc"] == "77.78" and bench["eps"] == "8/255" and bench["threat_model"] == "Linf"
    assert bench["autoattack_acc"] == f"{100 * standard:.2f}" and bench["reported"] == "71.2" and bench["venue"] == "here"
    assert bench["external"] == (f"{100 * worst:.2f}" if worst < standard else None)
    assert bench["unreliable"] is False and bench["flagged"] == []
    row = record["attacks"]["own/FGSM"]
    chunks = len(range(0, 7, row_chunk := record["chunk"]))  # each call of an ascent of ours asks the model once for its classes
    assert row["attacked"] == 7 and row["backward_passes_per_image"] == 1 and row_chunk > 0
    assert row["cost"]["forward"] == 7 and record["attacks"]["own/PGD"]["cost"]["forward"] == 9 * 7 + chunks
    assert row["settings"] == "deepdefense.attacks.fgsm()"
    assert record["attacks"]["own/PGD"]["settings"] == "deepdefense.attacks.loss_pgd(steps=8)"
    back = Report.read(tmp_path)
    assert back.summary() == report.summary() and back.table().equals(report.table())


def test_standard_suite_of_the_report_is_autoattack():
    model, x, y = small_images(12)
    report = evaluate(model, x, y, suites="standard", seed=3)
    alone = standard_suite.standard(model, x, y, eps=0.02, seed=3, batch_size=5)
    assert (report.robust() == (alone.clean & (alone.broken_by < 0)).numpy()).all()
    for number, part in enumerate(autoattack.PARTS):
        outcome = report.outcomes[f"standard/{part}"]
        assert (outcome.attacked == alone.attacked(part).numpy()).all()
        assert (outcome.success == (alone.broken_by == number).numpy()).all()
        after = (alone.clean & ((alone.broken_by < 0) | (alone.broken_by > number))).numpy()
        assert (report.robust(f"standard/{part}") == after).all()


def test_warnings_reach_the_summary():
    model, x, _ = small_images(8)
    model = Masked(model, "round")
    report = evaluate(model, *labelled(model, x), eps=0.1, suites="standard")
    bench = report.summary()["robustbench"]
    assert bench["unreliable"] is True and "zero gradient" in bench["flagged"]


def test_random_model_let_in():
    model, x, _ = small_images(8)
    model = Masked(model, "noise", 0.05)
    options = dict(suites=[FEW, "standard"], allow_random=True)
    first, again = (evaluate(model, *labelled(small_images(8)[0], x), **options) for _ in range(2))
    summary = first.summary()
    assert summary["deterministic"] is False and summary["robustbench"]["unreliable"] is True
    assert any("one draw" in warning["message"] for warning in summary["warnings"])
    assert first.table().equals(again.table()), "the same seed gives the same draws"


def test_nan_under_attack_is_no_right_answer():
    model, x, _ = small_images(6)
    x = 0.9 * x
    model = Masked(model, "nan")
    _, y = labelled(model, x)

    def brighter(model, x, y, *, eps, seed=0):
        return (x + eps).clamp(max=1)

    report = evaluate(model, x, y, eps=0.2, suites={"own": {"brighter": brighter}})
    assert not report.robust().any() and np.isposinf(report.outcomes["own/brighter"].loss[report.clean]).all()
    assert "NaN for 6 perturbed images, or infinite" in report.summary()["warnings"][0]["message"]


class Overflows(nn.Module):
    """Class 0 for mid-grey images and NaN for all others."""

    def forward(self, x):
        mean = x.flatten(1).mean(1)
        logits = torch.stack([1.2 - mean, mean, mean - 2, mean - 2], 1)
        return logits.masked_fill((x != 0.5).flatten(1).any(1)[:, None], torch.nan)


def test_autoattack_says_that_there_was_no_answer():
    x, y = torch.full((4, 1, 5, 5), 0.5), torch.zeros(4, dtype=torch.long)
    report = evaluate(Overflows(), x, y, eps=0.1, suites="standard")
    (said,) = (warning for warning in report.summary()["warnings"] if warning["kind"] == "NaN logits")
    assert said["part"] == "APGD-CE" and said["times"] == 4 and not report.robust().any()
    assert report.summary()["robustbench"]["unreliable"] and np.isposinf(report.outcomes["standard/APGD-CE"].loss).all()
    with pytest.raises(ValueError, match="no attack 'APGD-CE' was run; there are standard/APGD-CE, "):
        report.robust("APGD-CE")


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        (lambda x, eps: x + 1.5 * eps, "own/lies left the ball"),
        (lambda x, eps: x - eps - 1, "own/lies left the ball"),
        (lambda x, eps: x * torch.nan, "own/lies left the ball"),
        (lambda x, eps: x[:, :1], "own/lies returned images of shape"),
        (lambda x, eps: (x, x, x), "own/lies returned a tuple; it must return the perturbed images alone"),
        (lambda x, eps: None, "own/lies returned a NoneType"),
        (lambda x, eps: x.numpy(), "own/lies returned a ndarray"),
        (lambda x, eps: (255 * x).to(torch.uint8), "own/lies returned images of type torch.uint8"),
        (lambda x, eps: x.to("meta"), "own/lies returned images on meta for images on cpu"),
    ],
)
def test_attacks_that_lie(lie, said):
    model, x, y = small_images(4)
    suites = {"own": {"lies": lambda model, x, y, *, eps, seed=0: lie(x, eps)}}
    with pytest.raises(AttackError, match=said):
        evaluate(model, x, y, suites=suites)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_what_numpy_makes_of_images_is_taken_in_their_type(dtype):
    model, x, y = small_images(8)
    suites = {"own": {"brighter": lambda model, x, y, *, eps, seed=0: (x.to(dtype) + eps).clamp(0, 1)}}
    report = evaluate(model, x, y, suites=suites, eps=0.1)
    with torch.no_grad():
        right = model((x + 0.1).clamp(0, 1)).argmax(1) == y
    assert (report.robust() == (report.clean & right.numpy())).all()


@dataclass
class Configured:
    """An attack as a dataclass, which has no hash."""

    steps: int = 3

    def __call__(self, model, x, y, *, eps, seed=0):
        return attacks.loss_pgd(model, x, y, eps=eps, steps=self.steps, seed=seed)


@pytest.mark.parametrize("mode", ["full", "worst_case"])
def test_an_attack_without_a_hash(mode, tmp_path):
    model, x, y = small_images(8)
    function = partial(attacks.loss_pgd, steps=3)
    one = evaluate(model, x, y, suites={"own": {"a": function}}, mode=mode)
    same = [evaluate(model, x, y, suites={"own": {"a": Configured()}}, mode=mode, folder=tmp_path) for _ in range(2)]
    assert all((report.robust() == one.robust()).all() for report in same) and same[1].taken["pieces"] == 2
    assert evaluate(model, x, y, suites={"own": {"a": Configured(4)}}, mode=mode, folder=tmp_path).taken is None
    assert protocol.robust_accuracy(model, x, y, Configured(), eps=0.02) == one.robust().mean()


def test_nothing_is_left_behind():
    model, x, y = small_images(8)
    model.train()
    state, x_before, y_before = global_random_state(), x.clone(), y.clone()

    def careless(model, x, y, *, eps, seed=0):
        model.train()
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        torch.rand(3)
        y.zero_()
        return x.add_(eps / 2).clamp_(0, 1)

    evaluate(model, x, y, suites=[FEW, "standard", {"bad": {"careless": careless}}])
    assert model.training and model.conv.training and hooks(model) == 0 and state == global_random_state()
    assert torch.equal(x, x_before) and torch.equal(y, y_before)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


SCRIPT = """
import sys, torch
sys.path.insert(0, {tests!r})
torch.set_num_threads(1)
from defences import slow, small_images
from deepdefense import attacks, evaluate
model, x, y = small_images(14)
evaluate(model, x, y, eps=0.02, suites={{"own": {{"FGSM": attacks.fgsm, "slow": slow}}}}, chunk=2, folder={folder!r},
progress=False)
"""


def test_pieces_of_other_code_are_made_anew(tmp_path, monkeypatch):
    model, x, y = small_images(6)
    calls = []

    def counted(model, x, y, *, eps, seed):
        calls.append(len(x))
        return x

    suites = {"own": {"FGSM": attacks.fgsm, "counted": counted}}
    for _ in range(2):
        evaluate(model, x, y, suites=suites, folder=tmp_path)
    once = len(calls)
    monkeypatch.setattr(one_attack, "_code", lambda attack: "other")
    evaluate(model, x, y, suites=suites, folder=tmp_path)
    assert once == len(calls) / 2 > 0


def test_an_attack_depends_on_its_own_file_and_on_what_judges_it(monkeypatch):
    seen = []
    monkeypatch.setattr(code_files, "fingerprint", lambda files: seen.append({file.name for file in files}))
    for attack in (partial(attacks.rays, queries=5), attacks.fgsm, lambda model, x, y, *, eps, seed: x):
        one_attack._code(attack)
    assert "hard_label.py" in seen[0] - seen[1] and "gradient.py" in seen[1] - seen[0]
    assert all({"one_attack.py", "models.py", "losses.py", "contract.py"} <= files for files in seen)
    assert not seen[2] & {"hard_label.py", "gradient.py"}


@pytest.mark.slow
def test_killed_and_resumed_gives_the_same_files(tmp_path):
    """kill -9 in the middle of an evaluation; the same call goes on, repeats nothing, and ends with the same files."""
    model, x, y = small_images(14)
    suites = {"own": {"FGSM": attacks.fgsm, "slow": slow}}
    folder = tmp_path / "killed"
    script = SCRIPT.format(tests=str(Path(__file__).parent), folder=str(folder))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", script], env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 300
    while len(list(folder.rglob("*.safetensors"))) < 9 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    said = process.communicate()[1].decode()
    assert process.returncode == -signal.SIGKILL, said
    done = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    assert 9 <= len(done) < 14 and not (folder / "report.json").exists()
    resumed = evaluate(model, x, y, suites=suites, chunk=2, folder=folder)
    assert resumed.taken["pieces"] == len(done) and resumed.taken["of"] == 14
    assert all(path.stat().st_mtime_ns == before for path, before in done.items()), "finished pieces were done again"
    whole = evaluate(model, x, y, suites=suites, chunk=2, folder=tmp_path / "whole")
    files = [(tmp_path / name / "report.parquet").read_bytes() for name in ("killed", "whole")]
    assert files[0] == files[1] and without_time(resumed.summary()) == without_time(whole.summary())
    assert "taken" not in read_json(folder / "report.json")
    kept = [(folder / name).read_bytes() for name in ("report.parquet", "report.json")]
    evaluate(model, x, y, suites=suites, chunk=2, folder=folder)
    assert kept == [(folder / name).read_bytes() for name in ("report.parquet", "report.json")], "read back, not repeated"


def test_folder_of_another_evaluation(tmp_path):
    model, x, y = small_images(6)
    evaluate(model, x, y, folder=tmp_path)
    for change, said in (
        ({"eps": 0.03}, "eps = 0.02, not 0.03"),
        ({"seed": 1}, "seed = 0, not 1"),
        ({"chunk": 4}, "chunk = 5"),
    ):
        with pytest.raises(ValueError, match=f"holds results with {said}"):
            evaluate(model, x, y, folder=tmp_path, **change)
    with pytest.raises(ValueError, match="holds results with images ="):
        evaluate(model, 0.5 * x, y, folder=tmp_path)
    with torch.no_grad():
        model.head.bias += 1e-3
    with pytest.raises(ValueError, match="holds results with model ="):
        evaluate(model, x, y, folder=tmp_path)


def test_other_settings_of_an_attack_are_another_attack(tmp_path):
    model, x, y = small_images(6)
    for steps in (1, 3):
        suites = {"own": {"PGD": partial(attacks.loss_pgd, steps=steps)}}
        report = evaluate(model, x, y, suites=suites, folder=tmp_path)
        assert report.outcomes["own/PGD"].cost["forward"] == (steps + 1) * 5 + len(range(0, 5, report.about["chunk"]))


def test_of_two_processes_that_begin_a_folder_at_once_one_is_the_first(tmp_path, monkeypatch):
    model, x, y = small_images(6)
    evaluate(model, x, y, folder=tmp_path / "other", eps=0.03)
    true = files.begin_json

    def late(path, record):  # what another process did while this one looked
        shutil.copytree(tmp_path / "other" / "pieces", path.parent, dirs_exist_ok=True)
        return true(path, record)

    monkeypatch.setattr(files, "begin_json", late)
    with pytest.raises(ValueError, match=r"holds results with eps = 0.03, not 0.02"):
        evaluate(model, x, y, folder=tmp_path / "mine")
    again = evaluate(model, x, y, folder=tmp_path / "mine", eps=0.03)
    assert again.taken["pieces"] == again.taken["of"]


def test_a_process_killed_between_settings_and_answers_has_lost_nothing(tmp_path, monkeypatch):
    model, x, y = small_images(6)
    monkeypatch.setattr(resumable, "_write", lambda *_: pytest.fail("killed"))
    with pytest.raises(pytest.fail.Exception):
        evaluate(model, x, y, folder=tmp_path)
    monkeypatch.undo()
    assert (tmp_path / "pieces" / "settings.json").exists() and not (tmp_path / "pieces" / "settings.answers").exists()
    assert evaluate(model, x, y, folder=tmp_path).taken is None


def test_damaged_piece(tmp_path):
    pieces = Pieces(tmp_path, {"a": 1})
    pieces.get("part/0", lambda: ({"t": torch.arange(3)}, {"fact": 1}))
    path = tmp_path / "part" / "0.safetensors"
    assert pieces.get("part/0", None)[1] == {"fact": 1}
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ResultsError, match=r"is damaged .* delete it"):
        pieces.get("part/0", None)
    path.unlink()
    assert pieces.get("part/0", lambda: ({"t": torch.arange(4)}, {}))[0]["t"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["settings.json", "settings.answers"])
@pytest.mark.parametrize("how", ["gone", "cut", "empty", "other"])
def test_without_what_tells_of_which_model_nothing_is_read(name, how, tmp_path):
    model, x, y = small_images(3)
    other = Masked(Masked(model, ""), "round")
    suites = {"own": {"near": steepest}}
    evaluate(Masked(Masked(model, ""), ""), x, y, folder=tmp_path, suites=suites)
    path = tmp_path / "pieces" / name
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes({"cut": path.read_bytes()[:20], "empty": b"", "other": b"{}"}[how])
    with pytest.raises(ResultsError, match=f"{name} is {'gone' if how == 'gone' else 'damaged'}, .* delete the folder"):
        evaluate(other, x, y, folder=tmp_path, suites=suites)


def test_folders_within_a_folder_tell_of_their_own_pieces(tmp_path):
    piece = ({"a": torch.zeros(1)}, {})
    Pieces(tmp_path / "inner", {"n": 1}).get("one", lambda: piece)
    outer = Pieces(tmp_path, {"n": 2})
    outer.get("more/two", lambda: piece)
    assert Pieces(tmp_path, {"n": 2}).get("more/two", lambda: None)[1] == {}


@pytest.mark.parametrize("what", ["empty JSON", "one attack more", "another table", "fewer images"])
def test_files_that_are_not_of_one_report(what, tmp_path):
    model, x, y = small_images(3)
    whole = evaluate(model, x, y, folder=tmp_path, suites={"own": {"near": steepest}})
    record = read_json(tmp_path / "report.json")
    if what == "empty JSON":
        (tmp_path / "report.json").write_text("{}")
    elif what == "one attack more":
        record["attacks"]["own/other"] = record["attacks"]["own/near"]
        (tmp_path / "report.json").write_text(json.dumps(record))
    elif what == "another table":
        pq.write_table(pa.table({"a": [1]}), tmp_path / "report.parquet")
    else:
        pq.write_table(pq.read_table(tmp_path / "report.parquet").slice(0, 2), tmp_path / "report.parquet")
    with pytest.raises(ResultsError, match="are not the two files of one report"):
        Report.read(tmp_path)
    evaluate(model, x, y, folder=tmp_path, suites={"own": {"near": steepest}})
    assert Report.read(tmp_path).table().equals(whole.table())


def test_fingerprints_tell_apart():
    t = torch.arange(6.0)
    assert len({fingerprint(t), fingerprint(t + 1), fingerprint(t.view(2, 3)), fingerprint(t.double())}) == 4
    a, b = torch.nn.Sequential(torch.nn.ReLU()), torch.nn.Sequential(torch.nn.Tanh())
    assert model_fingerprint(a) != model_fingerprint(b)


def test_passes_are_counted():
    model, x, _ = small_images(5)
    with count_passes(model) as passes:
        model(x)
        z = model(x.clone().requires_grad_())
        z.sum().backward(retain_graph=True)
        z[:, 0].sum().backward()
    assert (passes.forward, passes.backward) == (10, 10) and hooks(model) == 0
    model(x)
    assert passes.forward == 10


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(norm="l1"), "norm must be one of linf, l2; got 'l1'"),
        (dict(eps=0.0), "eps must be above 0"),
        (dict(eps=8), "at most 1; got 8"),
        (dict(chunk=0), "chunk must be a whole number of at least 1"),
        (dict(batch_size=1.5), "batch_size must be a whole number"),
        (dict(seed=-1), "seed must be a whole number"),
        (dict(suites="papr"), "suite must be one of gradient, paper, standard"),
        (dict(suites=["standard", "standard"]), "'standard' is given twice"),
        (dict(suites={"standard": {"FGSM": attacks.fgsm}}), "give a suite of your own another name"),
        (dict(suites="adaptive", norm="l2"), "suite 'adaptive' has no attacks for norm 'l2'"),
        (dict(suites={"own": {"a/b": attacks.fgsm}}), "no '/'"),
        (
            dict(suites={"own": {"f": lambda model, x, y: x}}),
            r"own/f must be a function \(model, x, y, \*, eps, seed\)",
        ),
        (dict(suites={"own": {}}), "'own' has no attacks"),
        (dict(suites={"own": attacks.fgsm}), "suites of your own must be .*, got {'own': <function fgsm"),
        (dict(suites={"own": [attacks.fgsm]}), "suites of your own must be"),
        (dict(suites={"own": "gradient"}), "suites of your own must be .*, got {'own': 'gradient'}"),
        (dict(suites={1: {"f": attacks.fgsm}}), "suites of your own must be"),
        (dict(suites={"own": {10: attacks.fgsm}}), "an attack's name must be text, got 10 in the suite 'own'"),
    ],
)
def test_bad_settings(options, said):
    model, x, y = small_images(4)
    with pytest.raises(ValueError, match=said):
        evaluate(model, x, y, **options)


def test_every_suite_of_the_norm_by_default():
    model, x, _ = small_images(4)
    assert {"paper", "standard", "adaptive"} <= set(protocol.chosen_suites(None, model, x, "linf"))
    assert "standard" in protocol.chosen_suites(None, model, x, "l2")
    for members in protocol.chosen_suites(None, model, x, "linf").values():
        assert all(callable(attack) for attack in members.values())


def test_robust_accuracy_and_radii():
    model = Linear(classes=2)
    x, y = labelled(model, around_grey(20), wrong=(0,))
    distance = model.distance(x, model(x).argmax(1), "linf")
    radii = [0, *distance.quantile(torch.tensor([0.25, 0.5], dtype=x.dtype)).tolist(), 0.4]
    radii = [radius * 1.01 for radius in radii]
    exact = [((distance > radius) & (model(x).argmax(1) == y)).double().mean().item() for radius in radii]
    assert protocol.accuracy_by_eps(model, x, y, radii) == pytest.approx(exact)
    assert protocol.robust_accuracy(model, x, y, attacks.fgsm, eps=radii[1]) == pytest.approx(exact[1])


def test_robust_accuracy_takes_what_evaluate_takes():
    model = Linear(classes=4)
    x, y = labelled(model, around_grey(8), wrong=(0,))
    exact = protocol.robust_accuracy(model, x, y, attacks.fgsm, eps=0.02)
    for eps in (Fraction(1, 50), np.array(0.02)):
        assert protocol.robust_accuracy(model, x, y.to(torch.uint16), attacks.fgsm, eps=eps) == exact
    for label, net, eps, said in (
        (y + 4, model, 0.02, "from 0 to 3"),
        (y, Tupled(model), 0.02, "must return a tensor of logits .* got tuple"),
        (y, model, "8/255", "eps must be a number .* got '8/255'"),
    ):
        with pytest.raises(ValueError, match=said):
            protocol.robust_accuracy(net, x, label, attacks.fgsm, eps=eps)


class Tupled(nn.Module):
    """What training code often returns."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x), None


def test_progress_is_shown(capsys):
    model, x, y = small_images(6)
    evaluate(model, x, y, progress=True)
    said = capsys.readouterr().err
    assert "15/15" in said  # three attacks on five images
    assert "3 attacks on 6 images, at most about 111 forward passes an image" in said  # 1, 8 + 2 and a guess


def test_l2_ball_is_checked():
    x = torch.full((2, 1, 4, 4), 0.5)
    check_output(x, x + 0.1, 0.4, "test", "l2")
    model, x, y = small_images(4)
    report = evaluate(model, x, y, norm="l2", eps=0.1, suites="standard")
    for outcome in report.outcomes.values():
        assert (outcome.l2[outcome.attacked & outcome.success] <= 0.1 + 1e-6).all()
