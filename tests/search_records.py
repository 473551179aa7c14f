"""Training records made up for the tests of the search: real configurations, invented outcomes."""

from deepdefense.storage.paths import root
from replication import profiles

BAR = 0.33  # clean accuracy of the adversarially trained networks of `whole_grid`


def record(objective, clean=0.5, robust=0.1, alignment=0.0, status="finished", **parameters):
    """A record of `profiles.make("quick", objective, **parameters)` that ended with these validation figures."""
    settings = profiles.make("quick", objective, **{"epochs": 2, "width": 0.5, **parameters})
    last = {"val_accuracy": clean, "val_robust_accuracy": robust, "val_alignment": alignment, "at_chance": status == "collapsed"}
    last = {"epoch": 2, "finite": True, **last} if status != "diverged" else {"epoch": 2, "finite": False}
    good = {"epoch": 1, "finite": True, "val_accuracy": 0.9, "val_robust_accuracy": 0.9, "val_alignment": 0.9, "at_chance": False}
    return {
        "kind": "training",
        "name": settings.name(),
        "status": status,
        "code": "0" * 16,
        "config": settings.to_dict(),
        "data": {"val": 5000},
        "metrics": {"last": {"test_accuracy": 0.99}, "best": {"test_accuracy": 0.99}},
        "history": [good, last],
        "environment": {"device": "cpu (made up)", "commit": "0" * 12},
    }


def whole_grid():
    """A record for every run of the search: alignment rises with λ, accuracy falls, and past a λ the network collapses."""
    import grid  # workflow/grid.py

    rows = grid.load(root() / "workflow" / "grids" / "search.csv", "quick")
    return [_invented(row.config) for row in rows.values()]


def _invented(run):
    given = run.to_dict()
    options, objective = given.pop("options"), given.pop("objective")
    if objective == "pgd-at":
        return record(objective, BAR, 0.25, **given, **options)
    if not objective.startswith("gfa"):
        return record(objective, 0.5 - 0.02 * run.lam, 0.05 + 0.1 * min(run.lam, 1), **given, **options)
    strength = 2 if run.start == "plain" else 1 if not options else 0.7
    pull = strength * run.lam * (1 if objective == "gfa-first" else 4) * (1.5 - run.warmup)
    status = "diverged" if run.lr > 0.05 else "collapsed" if pull > 2.5 else "finished"
    figures = (0.5 - 0.05 * pull, 0.05 + 0.04 * pull, pull / 4) if status == "finished" else (0.1, 0.1, 0.6)
    return record(objective, *figures, status, **given, **options)
