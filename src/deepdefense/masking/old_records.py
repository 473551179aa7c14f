"""What records of the masking report from before the power of a check was recorded tell of it all the same.

Such a record holds how many images there were and how many each attack left, so the images that could have counted can
be had from it exactly. The shares are those that its rules allowed.
"""

from collections.abc import Mapping

NEVER, LITTLE = 0.01, 0.05


def images(check: Mapping, attacked: int | None) -> int | None:
    """How many images stood behind a check of a report that attacked so many; None for check 7, which counts readouts."""
    return None if check["number"] == 7 else check["numbers"].get("n", attacked)


def rules(check: Mapping) -> list[tuple[str, int, int, int, float]]:
    """(name, count, how many could have counted, n, share allowed) of each rule of a check that passed; none where the
    record lacks one of the counts, as those of the first versions do."""
    numbers, data = check["numbers"], check["data"]
    try:
        return RULES[check["number"]](numbers, data, numbers.get("n", 0))
    except KeyError:
        return []


def _left(accuracy: float, n: int) -> int:
    return round(accuracy * n)


def _strength(numbers, data, n):
    left = _left(data["variants"][next(name for name in data["variants"] if name.startswith("PGD-"))], n)
    broken = [n - _left(accuracy, n) for accuracy in data["accuracy"]]
    named = [(name, left, NEVER if name.startswith("broken by FGSM") else LITTLE) for name in list(numbers)[1:4]]
    named += [("largest rise of accuracy with eps", max(broken[:-1]), NEVER), ("left at eps 0.5", n, NEVER)]
    return [(name, numbers[name], could, n, allowed) for name, could, allowed in named]


def _invariance(numbers, data, n):
    left, by_ce = _left(data["white-box accuracy"], n), _left(data["loss accuracy"]["ce"], n)
    named = [("broken by a scale only", left), ("broken by a loss only", left), ("broken in float64 only", by_ce)]
    found = [(name, numbers[name], could, n, LITTLE) for name, could in named if numbers[name] is not None]
    return [*found, ("zero gradients", numbers["zero gradients"], n, n, NEVER), ("two passes differ", 0, 1, 1, 0.0)]


def _comparison(numbers, data, n):
    left = _left(data["white-box accuracy"], n)
    return [(f"broken by {name} only", count, left, n, data["allowed"]) for name, count in data["only"].items()]


def _convergence(numbers, data, n):
    named = [
        ("broken by multi-targeted restarts only", _left(data["accuracy"]["white-box"], n)),
        ("silent successes", _left(data["fooled so far"][-1], n)),
    ]
    return [(name, numbers[name], could, n, LITTLE) for name, could in named]


def _binarisation(numbers, data, n):
    made = numbers["readouts"]
    return [("readouts left unsolved", made - numbers["solved by any attack"], made, made, LITTLE)]


def _warnings(numbers, data, n):
    return [("warnings of AutoAttack", numbers["warnings"], 1, 1, 0.0)]


RULES = {
    1: _strength,
    2: _invariance,
    3: _comparison,
    4: _comparison,
    5: _comparison,
    6: _convergence,
    7: _binarisation,
    8: _comparison,
    9: _warnings,
}
