"""The cascade finds the worst case of the full mode, image by image, with fewer passes."""

import inspect
from functools import partial

import numpy as np
import pytest
import torch
from defences import Linear, Masked, Small, around_grey, labelled, small_images, steepest
from torch import nn

import deepdefense
from deepdefense import attacks
from deepdefense.attacks import paper, suites
from deepdefense.attacks.contract import takes_eps
from deepdefense.attacks.neighbours import on_rows, reads_layers, treats_alone
from deepdefense.cost import count_passes
from deepdefense.evaluation import cascade, standard_suite
from deepdefense.evaluation.report import Report
from deepdefense.masking import from_evaluation
from deepdefense.storage.resumable import Pieces

SHORT = {"steps": 3, "queries": 12, "searches": 2, "restarts": 1}


@pytest.fixture(autouse=True)
def short_autoattack(monkeypatch):
    monkeypatch.setattr(standard_suite, "standard", partial(standard_suite.standard, steps=3, queries=10))


class Deep(nn.Module):
    """With an inner layer, so that every attack of the adaptive suite applies."""

    def __init__(self, classes=5, seed=0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.first, self.head = nn.Linear(108, 20), nn.Linear(20, classes)

    def forward(self, x):
        return 4 * self.head(torch.relu(self.first(2 * x.flatten(1) - 1)))


def short(attack):
    parameters = inspect.signature(attack).parameters
    return partial(attack, **{name: value for name, value in SHORT.items() if name in parameters})


def every(model, x, norm, **known):
    """All suites of a norm but AutoAttack, short."""
    names = [name for name in suites.SUITES if name != "standard"]
    found = {name: suites.suite(name, model, x[:1], norm, **known) for name in names}
    double = x.dtype == torch.float64  # which the authors' FAB does not take
    return {
        name: {key: short(attack) for key, attack in members.items() if not (double and key == "FAB")}
        for name, members in found.items()
        if members
    }


def drawn(n, seed=3, shape=(3, 6, 6)):
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))


KNOWN = dict(guides=(drawn(6, 8), torch.arange(6) % 3))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_attack_that_treats_images_alone_does_the_same_on_a_part_of_a_chunk(norm):
    model, x = Deep().double(), drawn(7).double()
    known = dict(guides=(KNOWN["guides"][0].double(), KNOWN["guides"][1]), substitutes={"other": Deep(seed=4).double()})
    y = model(x).argmax(1)
    members = {f"{s}/{name}": a for s, found in every(model, x, norm, **known).items() for name, a in found.items()}
    parts = suites.suite("standard", model, x[:1], norm)
    members |= {f"parts/{name}": short(attack) for name, attack in parts.items()}
    alone = {name for name, attack in members.items() if treats_alone(attack, norm)}
    assert len(alone) > (12 if norm == "linf" else 6)
    eps = {"linf": 0.02, "l2": 0.2}[norm]
    for name in alone:
        options = dict(seed=5, **({"eps": eps} if takes_eps(members[name]) else {}))
        whole = members[name](model, x, y, **options)
        for rows in ([1, 2, 5], [6], [0, 1, 2, 3, 4]):
            rows = torch.tensor(rows)
            part = on_rows(members[name], model, x, y, rows, **options)
            assert torch.allclose(part, whole[rows], atol=1e-5), name
    heedful = {"scaled", "smooth", "transfer", "APGDT", "APGD-T"} if norm == "linf" else {"APGD-T", "Square"}
    assert all(any(word in name for name in members.keys() - alone) for word in heedful)


def test_draws_that_are_not_one_an_image_are_left_alone():
    rows = torch.tensor([0, 2, 3])

    def draws(model, x, y, *, seed=0):
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        return [
            torch.rand([3, 1, 1]), torch.rand(3), torch.randn(x.shape, generator=generator), torch.rand(len(x), 1, 1, 1),
            torch.rand_like(x), torch.empty_like(x).uniform_(-1, 1), torch.zeros_like(x).normal_(), torch.rand(3, 4, 4, 4),
        ]  # fmt: skip

    x, y = drawn(5, shape=(2, 2, 2)), torch.zeros(5)
    whole, part = draws(None, x, y), on_rows(draws, None, x, y, rows)
    for number, (one, other) in enumerate(zip(whole, part, strict=True)):
        assert torch.equal(one if number in (0, 1, 7) else one[rows], other), number


def compare(model, x, y, chosen, **options):
    options = {"eps": 0.02, "progress": False, "chunk": 7, "suites": chosen} | options
    full, quick = (deepdefense.evaluate(model, x, y, mode=mode, **options) for mode in ("full", "worst_case"))
    assert (full.robust() == quick.robust()).all() and (full.clean == quick.clean).all()
    assert set(full.outcomes) == set(quick.outcomes)
    left = full.clean.copy()
    for key, outcome in quick.outcomes.items():
        other = full.outcomes[key]
        assert outcome.cumulative and (outcome.attacked <= left).all() and not (outcome.success & ~outcome.attacked).any()
        assert (outcome.success == other.success)[outcome.attacked].all(), key
        left &= ~outcome.success
        assert (quick.robust(key) == left).all()
    return full, quick


def spent(report):
    return sum(outcome.cost["forward"] for outcome in report.outcomes.values())


@pytest.mark.parametrize(
    ("net", "norm"),
    [(net, "linf") for net in ("deep", "convolution", "rounding", "linear", "double")] + [("convolution", "l2"), ("linear", "l2")],
)
def test_the_same_worst_case_image_by_image(net, norm):
    eps = {"linf": 0.02, "l2": 0.12}[norm]
    model, x, y = small_images(14, wrong=(1, 8))
    if net in ("deep", "double"):
        model = Deep()
    if net == "rounding":
        model, eps = Masked(model, "round"), 3 * eps
    if net == "double":
        model, x = model.double(), x.double()
    if net == "linear":
        model = Linear((3, 6, 6), classes=5)
        x = around_grey(14, (3, 6, 6))
        eps = model.distance(x, model(x).argmax(1), norm).median().item()
    x, y = labelled(model, x, wrong=(1, 8))
    known = {} if net in ("linear", "double") else KNOWN | {"substitutes": {"other": (Deep if net == "deep" else Small)(seed=4)}}
    full, quick = compare(model, x, y, [every(model, x, norm, **known), "standard"], norm=norm, eps=eps)
    assert 0 < full.robust().sum() < full.clean.sum() and spent(quick) <= (0.9 if norm == "linf" else 1) * spent(full)


def test_the_same_bit_for_bit_where_nothing_is_rounded():
    """Whole weights and images in steps of 1/64: the attacks that draw are given the draws of their chunk."""
    model = Linear((3, 6, 6), classes=4)
    with torch.no_grad():
        model.W.mul_(2).round_()
        model.b.copy_(-model.W.sum(1) / 2)
    x, y = labelled(model, (around_grey(20, (3, 6, 6), spread=0.3) * 64).round() / 64, wrong=(3,))

    def corner(model, x, y, *, eps, seed=0):
        return (x + eps * torch.rand_like(x).round().mul(2).sub(1)).clamp(0, 1)

    own = {"own": {"FGSM": attacks.fgsm, "PGD": partial(attacks.loss_pgd, steps=6, random_start=False), "corner": corner}}
    full, quick = compare(model, x, y, own, eps=1 / 64)
    for key, outcome in quick.outcomes.items():
        for field in ("linf", "l2", "loss", "prediction"):
            assert np.array_equal(*(getattr(o, field)[outcome.attacked] for o in (outcome, full.outcomes[key])))
    assert 0 < full.robust().sum() < 19


def test_an_attack_of_ones_own_is_given_its_whole_chunk():
    """What it does to its neighbours' draws is not known; a chunk of which nothing stands is left out."""
    model, x, y = small_images(21, wrong=(1,))
    given = []

    def heeds(model, x, y, *, eps, seed=0):
        given.append(len(x))
        best = x
        for _ in range(3):  # draws for what is left, as APGD-T does
            left = (model(best).argmax(1) == y).nonzero().flatten()
            best = best.clone()
            best[left] = (x[left] + eps * (2 * torch.rand(x[left].shape) - 1).sign()).clamp(0, 1)
        return best

    own = {"own": {"FGSM": attacks.fgsm, "heeds": heeds}}
    full, quick = compare(model, x, y, own, eps=0.03, chunk=7)
    assert given[:3] == [7, 7, 6] and set(given[3:]) <= {7, 6}


def test_passes_of_a_weak_and_of_a_strong_defence():
    model, x, y = small_images(20)
    chosen = {name: members for name, members in every(model, x, "linf").items() if name != "adaptive"}
    weak = [spent(deepdefense.evaluate(model, x, y, eps=0.3, suites=chosen, mode=m, progress=False)) for m in ("full", "worst_case")]
    assert weak[1] < 0.05 * weak[0]
    strong = [spent(deepdefense.evaluate(model, x, y, eps=1e-4, suites=chosen, mode=m, progress=False)) for m in ("full", "worst_case")]
    assert strong[1] <= strong[0]


def test_the_report_of_a_cascade(tmp_path):
    model, x, y = small_images(24, wrong=(1,))
    chosen = [{"own": {"near": steepest, "PGD": partial(attacks.loss_pgd, steps=5), "FGSM": attacks.fgsm}}, "standard"]
    options = dict(eps=0.02, suites=chosen, progress=False, chunk=7)
    report = deepdefense.evaluate(model, x, y, mode="worst_case", folder=tmp_path, **options)
    assert [key for key in report.outcomes if "own" in key] == ["own/FGSM", "own/PGD", "own/near"]
    summary, rows = report.summary(), report.summary()["attacks"].values()
    assert [row["attacked"] for row in rows] == sorted((row["attacked"] for row in rows), reverse=True)
    accuracies = [row["accuracy"] for row in rows]
    assert accuracies == sorted(accuracies, reverse=True) and accuracies[-1] == summary["worst_case"]["accuracy"]
    assert summary["mode"] == "worst_case" and summary["suites"] == {} and summary["attacks"]["own/near"]["distance"] is None
    assert summary["robustbench"]["autoattack_acc"] is None and summary["robustbench"]["external"] is not None
    back = Report.read(tmp_path)
    assert back.summary() == summary and back.table().equals(report.table()) and (back.robust() == report.robust()).all()
    again = deepdefense.evaluate(model, x, y, mode="worst_case", folder=tmp_path, **options)
    assert again.taken["pieces"] == again.taken["of"] and again.table().equals(report.table())
    for path in list(tmp_path.rglob("*.safetensors"))[::2]:
        path.unlink()
    resumed = deepdefense.evaluate(model, x, y, mode="worst_case", folder=tmp_path, **options)
    assert resumed.table().equals(report.table()) and resumed.taken["pieces"] < resumed.taken["of"]
    with pytest.raises(ValueError, match="holds results with mode = 'worst_case'"):
        deepdefense.evaluate(model, x, y, folder=tmp_path, **options)
    with pytest.raises(ValueError, match="a cascade"):
        from_evaluation.of_report(report, y, 0.02)


def test_autoattack_alone_is_itself_in_both_modes():
    model, x, y = small_images(20)
    full, quick = (
        deepdefense.evaluate(model, x, y, eps=0.02, suites="standard", mode=mode, chunk=7, progress=False)
        for mode in ("full", "worst_case")
    )
    assert full.summary()["robustbench"]["autoattack_acc"] == quick.summary()["robustbench"]["autoattack_acc"] is not None
    assert full.table().equals(quick.table())


def test_nothing_stands():
    model, x, y = small_images(6)
    own = {"own": {"FGSM": attacks.fgsm, "PGD": attacks.loss_pgd}}
    report = deepdefense.evaluate(model, x, y, eps=0.9, suites=[own, "standard"], mode="worst_case", progress=False)
    assert report.robust().sum() == 0 and report.outcomes["standard/Square"].attacked.sum() == 0
    assert report.outcomes["standard/APGD-T"].cost["forward"] == 0


def test_cheapest_first():
    model, x = Small(), drawn(1)
    chosen = {name: suites.suite(name, model, x) for name in ("gradient", "paper", "standard", "adaptive")}
    order = cascade.in_order_of_cost(chosen, "standard", 10)
    assert len(order) == 1 + sum(len(members) for name, members in chosen.items() if name != "standard")
    assert [name for _, name in order[:2]] == ["FGSM", "FGSM"] and order[-1] == ("standard", None)
    places = {name: place for place, (_, name) in enumerate(order)}
    assert places["PGD margin, restarts"] < places["multi-targeted PGD"] < places["Square"]


@pytest.mark.parametrize(
    "attack",
    [
        attacks.fgsm, attacks.loss_pgd, partial(attacks.restarted_pgd, steps=5, restarts=3), attacks.scaled_pgd,
        partial(attacks.multi_targeted_pgd, steps=5), partial(paper.apgdt, steps=10), partial(attacks.apgd_t, steps=10),
        partial(attacks.fab_t, steps=10), partial(paper.fab, steps=10), partial(attacks.square, queries=200),
        partial(attacks.apgd, steps=20),
    ],
)  # fmt: skip
def test_estimated_passes(attack):
    model, x, y = small_images(3, wrong=())
    with count_passes(model) as passes:
        attack(model, x, y, seed=0, **({"eps": 1e-5} if takes_eps(attack) else {}))
    estimate = cascade.passes(attack, 10)
    assert 0.4 < estimate / (passes.forward / 3) < 1.6


def test_which_attacks_read_layers():
    assert reads_layers(partial(attacks.feature_pgd, steps=2)) and not reads_layers(attacks.fgsm)


class Interrupted(Exception):
    """What stops a cascade in the middle."""


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_an_interrupted_cascade_goes_on_and_ends_as_if_it_had_not_been(tmp_path, monkeypatch, share):
    """Stopped when so much of it was done, AutoAttack included; nothing that was finished is done again."""
    model, x, y = small_images(16)
    settings = dict(eps=0.002, suites=["gradient", "standard"], chunk=3, progress=False, mode="worst_case")
    made, most, get = [], [10**6], Pieces.get

    def counted(pieces, name, compute):
        def job():
            if len(made) >= most[0]:
                raise Interrupted
            made.append(name)
            return compute()

        return get(pieces, name, job)

    monkeypatch.setattr(Pieces, "get", counted)
    whole = deepdefense.evaluate(model, x, y, folder=tmp_path / "whole", **settings)
    wanted, most[0] = len(made), int(share * len(made))
    made.clear()
    with pytest.raises(Interrupted):
        deepdefense.evaluate(model, x, y, folder=tmp_path / "stopped", **settings)
    assert len(made) == most[0] > 0 and not (tmp_path / "stopped" / "report.json").exists()
    most[0] = 10**6
    resumed = deepdefense.evaluate(model, x, y, folder=tmp_path / "stopped", **settings)
    assert len(made) == wanted, "what was finished was done again"
    assert (resumed.robust() == whole.robust()).all() and 0 < resumed.robust().sum() < len(x)
    kept = [(tmp_path / name / "report.parquet").read_bytes() for name in ("stopped", "whole")]
    assert kept[0] == kept[1]
