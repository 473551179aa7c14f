"""A defence that draws from a generator of its own: the seed fixes it, and it comes back as it was."""

import random
from functools import partial

import numpy as np
import pytest
import torch
from defences import Small, small_images
from nets import global_random_state
from torch import nn

from deepdefense import attacks, evaluate, models
from deepdefense.inference import seeded
from deepdefense.own_generators import generators_of

MAKE = {
    "torch": lambda: torch.Generator().manual_seed(5),
    "numpy": lambda: np.random.default_rng(5),
    "numpy, Philox": lambda: np.random.Generator(np.random.Philox(5)),
    "numpy, old": lambda: np.random.RandomState(5),
    "python": lambda: random.Random(5),
}
of_this_file = np.random.default_rng(5)


def draw(generator) -> float:
    if isinstance(generator, torch.Generator):
        return torch.randn((), generator=generator).item()
    return generator.gauss(0, 1) if isinstance(generator, random.Random) else float(generator.normal())


class Noisy(nn.Module):
    """Noise from `find`(), which looks a generator up."""

    def __init__(self, find):
        super().__init__()
        self.core, self.find = Small(), find

    def forward(self, x):
        return self.core(x + 0.3 * draw(self.find()))


class Holder:
    def __init__(self, held):
        self.held = held

    def get(self):
        return self.held


class Names(nn.Module):
    """Names a generator of its file."""

    def __init__(self):
        super().__init__()
        self.core = Small()

    def forward(self, x):
        return self.core(x + 0.3 * draw(of_this_file))


def hooked() -> nn.Module:
    model, own = nn.Sequential(Small()), random.Random(5)
    model[0].register_forward_pre_hook(lambda _module, args: (args[0] + 0.3 * own.gauss(0, 1),))
    return model


def in_a_list() -> nn.Module:
    own = [torch.Generator().manual_seed(5)]
    return Noisy(lambda: own[0])


WAYS = {
    **{name: lambda make=make: Noisy(Holder(make()).get) for name, make in MAKE.items()},
    "a list": in_a_list,
    "a hook": hooked,
    "a global": Names,
    "a layer within": lambda: nn.Sequential(nn.Identity(), Noisy(Holder(random.Random(5)).get)),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_seed_fixes_it_and_it_comes_back_as_it_was(way, tmp_path):
    model = WAYS[way]().eval()
    x, y = small_images(12)[1:]
    (own,) = generators_of(model)

    def twice(seed):
        found = []
        for _ in range(2):
            with seeded(x.device, seed, model), torch.no_grad():
                found.append(model(x))
        return found

    state = global_random_state()
    first, again = twice(0)
    (other, _) = twice(1)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert global_random_state() == state
    seen = draw(own)
    fresh = WAYS[way]() if way != "a global" else None
    assert fresh is None or draw(generators_of(fresh)[0]) == seen  # what happened inside has not moved it
    assert torch.equal(*[attacks.fgsm(model, x, y, eps=0.1, seed=3) for _ in range(2)])


@pytest.mark.parametrize("way", ["torch", "numpy", "a hook"])
def test_a_resumed_evaluation_is_that_of_one_go(way, tmp_path):
    x, y = small_images(12)[1:]
    suites = {"own": {"FGSM": attacks.fgsm, "PGD": partial(attacks.loss_pgd, steps=2)}}
    options = dict(allow_random=True, suites=suites, eps=0.1)
    first = evaluate(WAYS[way](), x, y, folder=tmp_path, **options)
    for path in list(tmp_path.rglob("*.safetensors"))[::2]:
        path.unlink()
    again = evaluate(WAYS[way](), x, y, folder=tmp_path, **options)
    fresh = evaluate(WAYS[way](), x, y, **options)
    assert first.table().equals(again.table()) and first.table().equals(fresh.table()) and again.taken["pieces"] > 0


def test_several_of_a_model_draw_apart_and_a_model_without_has_none():
    model = nn.Sequential(Noisy(Holder(random.Random(5)).get), Noisy(Holder(random.Random(5)).get))
    with seeded(torch.device("cpu"), 0, model):
        one, other = (draw(generator) for generator in generators_of(model))
    assert one != other
    assert generators_of(models.build("cnn", (3, 32, 32), classes=10, seed=0)) == []
    noisy = Noisy(lambda: random.SystemRandom())
    noisy.own = random.SystemRandom()
    assert generators_of(noisy) == []


def test_a_generator_comes_back_after_an_error_too():
    own = np.random.default_rng(5)
    model = Noisy(Holder(own).get)
    with pytest.raises(RuntimeError, match="broken"), seeded(torch.device("cpu"), 0, model):
        draw(own)
        raise RuntimeError("broken")
    assert draw(own) == draw(np.random.default_rng(5))


@pytest.mark.parametrize("seed", [1.5, "3", None, True])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(ValueError, match="seed must be a whole number"), seeded(torch.device("cpu"), seed):
        pass


def test_a_whole_seed_of_any_kind():
    for seed in (np.int64(3), 3.0, torch.tensor(3)):
        with seeded(torch.device("cpu"), seed):
            found = torch.rand(1)
        assert found == torch.rand(1, generator=torch.Generator().manual_seed(3))
