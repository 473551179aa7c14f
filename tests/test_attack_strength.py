"""How strong the attacks are where the answer is known: on a plane, and step by step against torchattacks."""

from functools import partial

import pytest
import torch
import torchattacks
from nets import Plane, images

from deepdefense import attacks, models
from deepdefense.evaluation.protocol import accuracy_by_eps, evaluate, robust_accuracy
from deepdefense.losses import get_loss

ON_A_PLANE = {
    "fgsm": attacks.fgsm,
    "pgd": attacks.pgd,
    "apgd": partial(attacks.apgd, steps=20),
    "margin": attacks.loss_pgd,
    "ce": partial(attacks.loss_pgd, loss="ce"),
    "ce, last iterate": partial(attacks.loss_pgd, loss="ce", keep_best=False),
}


def plane(seed=0, n=60):
    """(model, x, y, the L∞ distance of each image to the boundary), with x far enough from the box for eps up to 0.2."""
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(12, generator=generator)
    x = 0.3 + 0.4 * torch.rand(n, 3, 2, 2, generator=generator)
    b = -(x.flatten(1) @ w).mean()
    score = x.flatten(1) @ w + b
    return Plane(w, b), x, (score > 0).long(), score.abs() / w.abs().sum()


def report(model, x, y, eps, suite, **options):
    return evaluate(model, x, y, eps=eps, suites={"own": suite}, progress=False, **options)


@pytest.mark.parametrize("name", list(ON_A_PLANE))
@pytest.mark.parametrize("eps", [0.03, 0.06, 0.1, 0.2])
def test_robust_exactly_where_the_boundary_is_farther_than_eps(name, eps):
    for seed in range(3):
        model, x, y, distance = plane(seed)
        sure = (distance - eps).abs() > 1e-4
        assert sure.float().mean() > 0.9 and (distance[sure] < eps).any()
        found = report(model, x, y, eps, {name: ON_A_PLANE[name]}, chunk=25)
        assert found.clean.all() and torch.equal(torch.from_numpy(found.robust())[sure], distance[sure] > eps)


def test_accuracy_by_eps_is_the_distribution_of_distances():
    model, x, y, distance = plane()
    radii = [0.0, 0.02, 0.05, 0.11, 0.19]
    expected = [(distance > eps).float().mean().item() for eps in radii]
    assert accuracy_by_eps(model, x, y, radii) == pytest.approx(expected, abs=1e-6)
    assert accuracy_by_eps(model, x, y, [0.5]) == [0.0]


@pytest.mark.parametrize("steps", [1, 2, 5, 10])
@pytest.mark.parametrize("alpha", [None, 0.02])
def test_pgd_of_our_own_is_torchattacks_pgd_step_for_step(steps, alpha):
    model, (x, y) = models.build("cnn", (2, 8, 8), 4, width=0.2, seed=1).eval(), images(8, (2, 8, 8), 4)
    ours = attacks.loss_pgd(model, x, y, eps=0.05, alpha=alpha, steps=steps, loss="ce", random_start=False, keep_best=False)
    theirs = torchattacks.PGD(model, eps=0.05, alpha=alpha or 0.05 / 4, steps=steps, random_start=False)(x, y)
    assert torch.allclose(ours, theirs, atol=1e-6)
    wrapped = attacks.pgd(model, x, y, eps=0.05, alpha=alpha, steps=steps, random_start=False)
    assert torch.equal(wrapped, theirs)


def test_fgsm_and_apgd_are_torchattacks_own():
    model, (x, y) = models.build("cnn", (2, 8, 8), 4, width=0.2, seed=1).eval(), images(8, (2, 8, 8), 4)
    assert torch.equal(attacks.fgsm(model, x, y, eps=0.05), torchattacks.FGSM(model, eps=0.05)(x, y))
    theirs = torchattacks.APGD(model, norm="Linf", eps=0.05, steps=100, n_restarts=1, seed=4, loss="ce")
    assert torch.equal(attacks.apgd(model, x, y, eps=0.05, seed=4), theirs(x, y))


@pytest.mark.parametrize("loss", ["margin", "ce", "mse"])
@pytest.mark.parametrize("alpha", [0.01, 0.3])
def test_the_best_iterate_is_no_worse_than_the_last_or_the_start(loss, alpha):
    """With a step of six times eps the iterates jump between corners, so that the last is often not the best."""
    model, (x, y) = models.build("cnn", (1, 8, 8), 4, seed=1).eval(), images(64, (1, 8, 8), 4)
    value, better = get_loss(loss), 0
    for steps in (1, 2, 7):
        run = partial(attacks.loss_pgd, model, x, y, eps=0.05, alpha=alpha, steps=steps, loss=loss, seed=steps)
        best, last = value(model(run()), y), value(model(run(keep_best=False)), y)
        assert (best >= last - 1e-6).all()
        better += (best > last + 1e-6).sum().item()
        still = attacks.loss_pgd(model, x, y, eps=0.05, alpha=alpha, steps=steps, loss=loss, random_start=False)
        assert (value(model(still), y) >= value(model(x), y) - 1e-6).all()
    assert better > 0 or alpha == 0.01


def test_two_batches_get_noise_of_their_own():
    """torchattacks reseeds itself on every call: with one seed, equal batches would get equal noise."""
    x, y = images(6, (1, 6, 6), 3)
    model = models.build("mlp", (1, 6, 6), 3, width=0.02, seed=0).eval()
    y = model(x).argmax(1)
    twice, labels = torch.cat([x, x]), torch.cat([y, y])
    for attack in (attacks.pgd, partial(attacks.apgd, steps=2), attacks.loss_pgd):
        seen = []

        def spy(model, x, y, *, eps, seed, attack=attack, seen=seen):
            seen.append(attack(model, x, y, eps=eps, seed=seed))
            return seen[-1]

        report(model, twice, labels, 0.9, {"spy": spy}, chunk=6, seed=5)
        assert len(seen) == 2 and not torch.equal(*seen)
        first = seen.copy()
        report(model, twice, labels, 0.9, {"spy": spy}, chunk=6, seed=5)
        assert all(torch.equal(a, b) for a, b in zip(first, seen[2:], strict=True)), "and it is repeatable"


def test_images_already_wrong_are_not_robust_and_not_attacked():
    model, x, y, distance = plane()
    wrong = torch.arange(len(y)) % 3 == 0
    labels = torch.where(wrong, 1 - y, y)
    seen = []

    def spy(_model, x, _y, *, eps, seed):
        seen.append(len(x))
        return x

    found = report(model, x, labels, 0.05, {"none": spy, "fgsm": attacks.fgsm}, chunk=15)
    assert torch.equal(torch.from_numpy(found.clean), ~wrong)
    assert torch.equal(torch.from_numpy(found.robust("own/none")), ~wrong)
    assert sum(seen) == (~wrong).sum() and max(seen) == 15
    assert torch.equal(torch.from_numpy(found.robust()), ~wrong & (distance > 0.05))
    assert robust_accuracy(model, x, 1 - y, attacks.fgsm, eps=0.05) == 0.0
