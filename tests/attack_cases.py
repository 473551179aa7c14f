"""The attacks that every test of what attacks have in common goes through, short ones."""

from functools import partial

import pytest

from deepdefense import attacks

ATTACKS = {
    "fgsm": attacks.fgsm,
    "pgd": partial(attacks.pgd, steps=3),
    "pgd without random start": partial(attacks.pgd, steps=3, random_start=False),
    "apgd": partial(attacks.apgd, steps=5),
    "apgd with restarts": partial(attacks.apgd, steps=3, restarts=2),
    "loss_pgd": partial(attacks.loss_pgd, steps=3),
    "loss_pgd, last iterate": partial(attacks.loss_pgd, steps=3, keep_best=False, loss="mse"),
}
every_attack = pytest.mark.parametrize("attack", ATTACKS.values(), ids=list(ATTACKS))
