"""What a kept result belongs to: a function's fingerprint changes with all that it is made of, a model's answers with its code."""

import functools
import os
import random
import subprocess
import sys
import threading
import types
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from defences import small_images
from torch import nn

from deepdefense import attacks
from deepdefense.storage.identity import class_fingerprint, function_fingerprint, model_answers
from deepdefense.storage.resumable import other_answers

LONG = torch.linspace(0, 1, 5000)


def changed(tensor):
    """`tensor` but for one entry in the middle, which no printed form shows."""
    other = tensor.clone()
    other[len(other) // 2] += 1
    return other


class Called:
    """An attack that is an object."""

    def __init__(self, strength):
        self.strength = strength

    def __call__(self, model, x, y, *, eps, seed=0):
        return x + self.strength * eps


class Slotted:
    __slots__ = ("held",)

    def __init__(self, held):
        self.held = held

    def __call__(self, x):
        return x


def closing(value):
    return lambda model, x, y, *, eps, seed=0: x + value * eps


def helper_of(text):
    """A function of a module of one's own that calls a helper, and reads a number, of the same module."""
    space = {"__name__": "somebodys_module"}
    exec(f"{text}\ndef attack(model, x, y, *, eps, seed=0):\n    return helper(x) * STRENGTH", space)
    return space["attack"]


def net(seed=0, levels=4):
    torch.manual_seed(seed)
    found = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    found.levels = levels
    return found


def hooked():
    found = net()
    found.register_forward_pre_hook(lambda module, args: (args[0] * 2,))
    return found


def cached(value):
    @functools.cache
    def helper():
        return value

    return lambda x: x * helper()


def importing(name):
    """A function that imports a module of one's own only when it runs; two modules that differ in a number."""
    sys.modules[name] = types.ModuleType("somebodys")
    sys.modules[name].STRENGTH = len(name)
    space = {"__name__": "somebodys_module"}
    exec(f"def attack(x):\n    import {name} as helper\n    return x * helper.STRENGTH", space)
    return space["attack"]


PAIRS = {
    "code": (lambda x: x + 1, lambda x: x + 2),
    "constant of an inner function": (lambda x: (lambda z: z + 1)(x), lambda x: (lambda z: z + 2)(x)),
    "closure": (closing(1), closing(2)),
    "closure, network": (closing(net(0)), closing(net(1))),
    "closure, network's attribute": (closing(net(levels=4)), closing(net(levels=8))),
    "closure, network's hook": (closing(net()), closing(hooked())),
    "closure, long tensor": (closing(LONG), closing(changed(LONG))),
    "default": (lambda x, a=1: a, lambda x, a=2: a),
    "keyword default": (lambda x, *, a=(1, [2]): a, lambda x, *, a=(1, [3]): a),
    "helper": (helper_of("STRENGTH = 1\ndef helper(x): return x"), helper_of("STRENGTH = 1\ndef helper(x): return -x")),
    "global": (helper_of("STRENGTH = 1\ndef helper(x): return x"), helper_of("STRENGTH = 2\ndef helper(x): return x")),
    "object": (Called(1), Called(2)),
    "object with slots": (Slotted(LONG), Slotted(changed(LONG))),
    "bound method": (Called(1).__call__, Called(2).__call__),
    "partial": (partial(attacks.loss_pgd, steps=3), partial(attacks.loss_pgd, steps=4)),
    "partial, tensor": (partial(attacks.feature_pgd, guides=LONG), partial(attacks.feature_pgd, guides=changed(LONG))),
    "partial of partial": (partial(partial(pow, 2), 3), partial(partial(pow, 2), 4)),
    "substitute": (attacks.transfer({"net": net(0)}), attacks.transfer({"net": net(1)})),
    "substitute's attack": (attacks.transfer({"net": net()}, steps=3), attacks.transfer({"net": net()}, steps=4)),
    "bfloat16": (closing(LONG[:200].bfloat16()), closing(changed(LONG[:200]).bfloat16())),
    "array": (closing(np.arange(5000)), closing(np.arange(5000)[::-1].copy())),
    "generator": (closing(torch.Generator().manual_seed(1)), closing(torch.Generator().manual_seed(2))),
    "NumPy's generator": (closing(np.random.default_rng(1)), closing(np.random.default_rng(2))),
    "Python's generator": (closing(random.Random(1)), closing(random.Random(2))),
    "builtin": (torch.sin, torch.cos),
    "method of a builtin": ("a".join, "b".join),
    "cached helper": (cached(1), cached(2)),
    "import where it runs": (importing("somebodys_first"), importing("somebodys_second")),
    "set": (closing({"a", "b"}), closing({"a", "c"})),
    "wrapped": (functools.wraps(net)(closing(1)), functools.wraps(net)(closing(2))),
    "class": (type("A", (nn.Module,), {"forward": lambda self, x: x}), type("A", (nn.Module,), {"forward": lambda self, x: -x})),
    "attack of ours": (attacks.fgsm, attacks.pgd),
}


@pytest.mark.parametrize("name", PAIRS)
def test_anything_that_changes_the_function_changes_its_fingerprint(name):
    one, other = PAIRS[name]
    assert function_fingerprint(one) == function_fingerprint(one) != function_fingerprint(other)


def test_equal_functions_have_equal_fingerprints():
    for make in (lambda: closing(3), lambda: closing(net(1)), lambda: Called(2), lambda: attacks.transfer({"n": net()})):
        assert function_fingerprint(make()) == function_fingerprint(make())
    loop = []
    loop.append(loop)
    assert function_fingerprint(closing(loop)) == function_fingerprint(closing(loop))


def test_what_is_only_written_to_has_no_say_and_what_is_read_has():
    def logs(calls):
        return lambda x: calls.append(len(x)) or x

    def reads(calls):
        return lambda x: x * len(calls)

    assert function_fingerprint(logs([])) == function_fingerprint(logs([1, 2]))
    assert function_fingerprint(reads([])) != function_fingerprint(reads([1, 2]))


def test_a_module_that_changes_between_two_looks():
    attack = importing("somebodys_third")
    before = function_fingerprint(attack)
    sys.modules["somebodys_third"].STRENGTH += 1
    assert function_fingerprint(attack) != before == function_fingerprint(importing("somebodys_third"))


@pytest.mark.parametrize(
    "attack",
    [
        lambda x: x * float(os.environ["STRENGTH"]),
        lambda x: x * float(os.getenv("STRENGTH")),
        lambda x: x * globals()["STRENGTH"],
        lambda x: [open(name) for name in x],
        lambda x: Path(x).read_text(),
    ],
)
def test_what_reads_the_world_is_never_the_same(attack):
    assert function_fingerprint(attack) != function_fingerprint(attack)


def test_what_cannot_be_looked_into_is_never_the_same():
    attack = closing(threading.Lock())
    assert function_fingerprint(attack) != function_fingerprint(attack)


SCRIPT = "import sys; sys.path.insert(0, {tests!r})\nfrom test_identity import fingerprints\nprint(fingerprints())"


def fingerprints():
    return [function_fingerprint(value) for value in (*(one for one, _ in PAIRS.values()), {"a", "b", "c"}, frozenset("abc"))]


def test_the_same_in_another_process():
    """Also where strings hash otherwise, so that sets come in another order."""
    script = SCRIPT.format(tests=str(Path(__file__).parent))
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == str(fingerprints())


class Defence(nn.Module):
    """Versions of a defence around the same weights."""

    def __init__(self, core, version):
        super().__init__()
        self.core, self.version = core, version

    def forward(self, x):
        if self.version == "quantised":
            x = x + ((x * 4).round() / 4 - x).detach()
        elif self.version == "255 levels":
            x = x + ((x * 255).round() / 255 - x).detach()
        elif self.version == "255 levels, no gradient":
            x = (x * 255).round() / 255
        elif self.version == "noisy":
            x = x + 0.1 * torch.randn_like(x)
        elif self.version == "unrepeatable":
            x = x + 0.1 * random.SystemRandom().random()
        z = self.core(x)
        return 1.001 * z if self.version == "scaled" else z


def test_answers_tell_versions_of_a_defence_apart():
    core, x, _ = small_images(20)
    x = (x * 255).round() / 255
    names = ["plain", "quantised", "255 levels", "255 levels, no gradient", "noisy", "scaled"]
    found = {name: model_answers(Defence(core, name), x, eps=0.02) for name in names}
    for one in names:
        again = model_answers(Defence(core, one), x, eps=0.02)
        assert [other for other in names if other_answers(found[other], again) is None] == [one]
    assert "input gradients" in other_answers(found["255 levels"], found["255 levels, no gradient"])
    assert model_answers(Defence(core, "unrepeatable"), x, eps=0.02) == {}


def test_answers_do_not_mind_rounding():
    """The same network in double precision stands for one that rounds otherwise: other threads, another batch size."""
    core, x, _ = small_images(20)
    for norm in ("linf", "l2"):
        single = model_answers(core, x, eps=0.02, norm=norm)
        double = model_answers(core.double(), x.double(), eps=0.02, norm=norm)
        core.float()
        assert not torch.equal(single["logits"], double["logits"]) and other_answers(single, double) is None


def test_long_rows_are_kept_short_and_still_tell():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1000))
    x = torch.rand(6, 3, 2, 2)
    before = model_answers(model, x, eps=0.1)
    assert before["logits"].shape == (18, 16)
    with torch.no_grad():
        model[1].bias[700] += 0.1
    assert "logits on fixed images" in other_answers(before, model_answers(model, x, eps=0.1))


def test_classes_of_a_model_without_its_state():
    core, _, _ = small_images(2)
    assert class_fingerprint(Defence(core, "plain")) == class_fingerprint(Defence(core, "noisy")) != class_fingerprint(core)
