"""What `deepdefense suites` prints: every suite with its attacks, their settings and their cost."""

from ..attacks.forward_passes import passes_of
from ..attacks.suites import SUITES, suite
from ..evaluation.attack_words import describe
from ..models import build

SHOWN_ON = ((3, 32, 32), 10)  # what a suite holds can depend on the model: that of a CNN of CIFAR-10's shape is shown


def suites(norm: str) -> str:
    """Every suite that has attacks for `norm`, a line an attack: name, forward passes of one image at most, settings."""
    shape, classes = SHOWN_ON
    model = build("cnn", shape, classes, width=0.1, seed=0)
    x = next(model.parameters()).new_zeros(1, *shape)
    lines = []
    for name in SUITES:
        members = suite(name, model, x, norm)
        if members:
            lines.append(f"{name}")
        for attack_name, attack in members.items():
            known = passes_of(attack, classes, len(model.tap_names) - 1)
            cost = "as needed" if known is None else f"{known:,}"
            lines.append(f"  {attack_name:<24}{cost:>10}  {describe(attack).removeprefix('deepdefense.attacks.')}")
    head = f"suites for {norm}: name, forward passes of one image at most (for 10 classes), settings"
    return "\n".join([head, *lines])
