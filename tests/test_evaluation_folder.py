"""A result folder answers only for what it knows: this model, these attacks, these images; and it says what it gave."""

import random
from functools import partial

import numpy as np
import pytest
import torch
from defences import Small, small_images
from nets import global_random_state
from torch import nn

import deepdefense
from deepdefense import attacks
from deepdefense.evaluation import standard_suite
from deepdefense.storage import files
from deepdefense.storage.resumable import fingerprint, model_fingerprint


@pytest.fixture(autouse=True)
def short_autoattack(monkeypatch):
    monkeypatch.setattr(standard_suite, "standard", partial(standard_suite.standard, steps=3, queries=10))


def evaluate(model, x, y, suites, **options):
    return deepdefense.evaluate(model, x, y, **({"eps": 0.03, "suites": suites, "progress": False, "chunk": 5} | options))


class Defence(nn.Module):
    """A step before the same weights."""

    def __init__(self, core, step):
        super().__init__()
        self.core, self.step = core, step

    def forward(self, x):
        return self.core(self.step(x))


@pytest.mark.parametrize("edited", ["weights alike", "gradient only"])
@pytest.mark.parametrize("suites", [{"own": {"FGSM": attacks.fgsm}}, "standard"])
def test_an_edited_defence_is_another_one(edited, suites, tmp_path):
    core, x, _ = small_images(8)
    x = (x * 4).round() / 4
    y = core(x).argmax(1)
    steps = {
        "weights alike": lambda x: x + ((x * 4).round() / 4 - x).detach(),
        "gradient only": lambda x: x.detach() + (x - x.detach()) * 1e-9,
    }
    plain = lambda x: x + 0  # noqa: E731
    evaluate(Defence(core, plain), x, y, suites, folder=tmp_path)
    with pytest.raises(ValueError, match="holds results of another model: the weights are the same, but it differs in its"):
        evaluate(Defence(core, steps[edited]), x, y, suites, folder=tmp_path)
    again = evaluate(Defence(core, plain), x, y, suites, folder=tmp_path, batch_size=2)
    assert again.taken["pieces"] == again.taken["of"] > 0


def test_autoattack_alone_knows_an_edited_defence(tmp_path):
    core, x, y = small_images(6)
    standard_suite.standard(core, x, y, eps=0.03, folder=tmp_path)
    double = Defence(core, lambda x: 2 * x - x.detach())
    double.core = core
    with pytest.raises(ValueError, match="holds results"):
        standard_suite.standard(double, x, y, eps=0.03, folder=tmp_path)


def shifted(by, calls):
    def attack(model, x, y, *, eps, seed=0):
        calls.append(len(x))
        return (x + eps * by.mean()).clamp(0, 1)

    return attack


LONG = torch.linspace(-1, 1, 3000)
OTHER = LONG.roll(1) * LONG.abs()


class Object:
    def __init__(self, by, calls):
        self.run = shifted(by, calls)

    def __call__(self, model, x, y, *, eps, seed=0):
        return self.run(model, x, y, eps=eps, seed=seed)


def bound(by, calls):
    def attack(model, x, y, *, eps, seed=0, by=None):
        calls.append(len(x))
        return (x + eps * by.mean()).clamp(0, 1)

    return partial(attack, by=by)


def substitute(by, calls):
    network = Small(seed=1 if by is LONG else 2)
    network.register_forward_hook(lambda module, args, output: calls.append(len(output)) or None)
    return attacks.transfer({"same name": network}, steps=1)


@pytest.mark.parametrize("make", [shifted, Object, bound, substitute])
def test_an_edited_attack_is_another_one(make, tmp_path):
    model, x, y = small_images(6)
    calls, seen = [], []
    for by in (LONG, OTHER, LONG, OTHER):
        evaluate(model, x, y, {"own": {"mine": make(by, calls)}}, folder=tmp_path)
        seen.append(len(calls))
    assert 0 < seen[0] < seen[1] == seen[2] == seen[3]


def test_names_that_clean_up_alike_share_nothing(tmp_path):
    model, x, y = small_images(6)
    still = {name: partial(attacks.loss_pgd, steps=1) for name in ("net 1", "net_1", "net-1", "net:1")}
    report = evaluate(model, x, y, {"own": still}, folder=tmp_path)
    assert report.taken is None and len(list((tmp_path / "pieces" / "own").iterdir())) == 4


def test_what_is_read_back_is_said(tmp_path, capsys):
    model, x, y = small_images(12)
    suites = [{"own": {"FGSM": attacks.fgsm}}, "standard"]
    first = evaluate(model, x, y, suites, folder=tmp_path)
    assert first.taken is None and "read from" not in capsys.readouterr().err and "taken" not in first.summary()
    next((tmp_path / "pieces" / "own").glob("*/*")).unlink()
    second = evaluate(model, x, y, suites, folder=tmp_path)
    said = capsys.readouterr().err
    assert f"2 of 3 results are read from {tmp_path / 'pieces'}, made 20" in said and "standard-" in said
    taken = second.summary()["taken"]
    assert taken["of"] - taken["pieces"] == 1 and taken["made"][0] <= taken["made"][1]
    assert "taken" not in files.read_json(tmp_path / "report.json") and first.table().equals(second.table())


class Draws(nn.Module):
    """Noise from NumPy, from Python or from a generator that no seed reaches."""

    def __init__(self, source):
        super().__init__()
        self.core, self.source = Small(), source
        self.own = random.SystemRandom()

    def forward(self, x):
        draw = {"numpy": lambda: np.random.normal(size=x.shape), "python": lambda: random.gauss(0, 1)}.get(  # noqa: NPY002
            self.source, lambda: self.own.gauss(0, 1)
        )
        return self.core(x + 0.2 * torch.as_tensor(draw()).to(x))


@pytest.mark.parametrize("source", ["numpy", "python"])
def test_the_seed_fixes_a_defence_that_draws_elsewhere(source, tmp_path):
    _, x, y = small_images(12)
    state = global_random_state()
    suites = {"own": {"FGSM": attacks.fgsm, "PGD": partial(attacks.loss_pgd, steps=2)}}
    options = dict(allow_random=True, suites=suites)
    first = evaluate(Draws(source), x, y, folder=tmp_path / "first", **options)
    assert global_random_state() == state
    for path in list((tmp_path / "first").rglob("*.safetensors"))[::2]:
        path.unlink()
    again = evaluate(Draws(source), x, y, folder=tmp_path / "first", **options)
    fresh = evaluate(Draws(source), x, y, **options)
    assert first.table().equals(again.table()) and first.table().equals(fresh.table()) and again.taken["pieces"] > 0


def test_stored_answers_are_never_laid_on_other_images(tmp_path):
    """Which images such a defence gets right is another draw each time: their pieces are those images' alone."""
    _, x, y = small_images(20)
    given = []

    def looks(model, x, y, *, eps, seed=0):
        given.append(fingerprint(x))
        return x

    for _ in range(4):
        report = evaluate(Draws("nowhere"), x, y, {"own": {"looks": looks}}, allow_random=True, folder=tmp_path, chunk=30)
        assert (report.outcomes["own/looks"].attacked == report.clean).all()
    kept = list((tmp_path / "pieces" / "own").rglob("*.safetensors"))
    assert len(kept) == len(given) == len(set(given)) > 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.bool, torch.complex64, torch.uint8])
def test_fingerprints_of_every_type(dtype):
    one, other = torch.tensor([0.0, 1.0, 1.0]).to(dtype), torch.tensor([0.0, 1.0, 0.0]).to(dtype)
    assert fingerprint(one) == fingerprint(one.clone()) != fingerprint(other)
    assert fingerprint(one[0]) != fingerprint(one[:1]) and fingerprint(one.expand(2, 3)) == fingerprint(torch.stack([one, one]))


def test_the_fingerprints_of_earlier_records_stay():
    assert fingerprint(torch.arange(6.0), torch.tensor(3), torch.eye(2).bool()) == "40d8ad2c5d2d8bc9"
    assert model_fingerprint(Small().bfloat16()) != model_fingerprint(Small()) == "478ce2f1f26c4ec8"


@pytest.mark.parametrize("place", [0.3, 0.6, 0.97])
def test_a_flipped_byte_in_a_kept_result_is_noticed(place, tmp_path):
    model, x, y = small_images(12)
    options = dict(suites={"own": {"FGSM": attacks.fgsm}}, folder=tmp_path)
    evaluate(model, x, y, **options)
    piece = next((tmp_path / "pieces" / "own").rglob("*.safetensors"))
    content = bytearray(piece.read_bytes())
    content[int(place * len(content))] ^= 1
    piece.write_bytes(content)
    with pytest.raises(files.ResultsError, match=f"{piece.name} is damaged .*delete it, and it is computed again"):
        evaluate(model, x, y, **options)
