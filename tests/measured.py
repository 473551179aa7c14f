"""Networks of known weights as finished runs, and their measures, without any training."""

from nets import digits

from deepdefense import models, training
from replication import profiles
from replication.experiments import measure


def run(objective="standard", seed=0, model=None, **options):
    """A run with the fresh weights of its seed; the record has what the measures read."""
    settings = profiles.make("smoke", objective, seed=seed, width=0.25, **options)
    model = model or models.build("cnn", (1, 8, 8), 10, width=0.25, seed=seed)
    record = {
        "kind": "training",
        "name": settings.name(),
        "config": settings.to_dict(),
        "status": "finished",
        "data": {"classes": [str(digit) for digit in range(10)]},
        "metrics": {"last": {"test_accuracy": 0.1}, "best": None},
        "environment": {"commit": "none"},
    }
    return training.Run(record, model.eval(), model, None)


def record(objective, seed, n=5):
    """The measures of such a run but for the sweep, whose numbers are made up: attacks take time, and no figure needs them."""
    one, test = run(objective, seed), digits(20, 20, n).test
    accuracy = {f"{attack}/{level}": 1 / level for attack in ("FGSM", "PGD-20") for level in (1, 2)}
    return {
        "kind": "measures",
        "name": one.name,
        "n": n,
        "training": one.record,
        "sweep": {"levels": [1, 2], "accuracy": accuracy},
        "geometry": measure.rounded(measure.geometry(one.last, test.images(), test.y, eps=0.1, seed=seed)),
    }
