"""From numbers to words: the rules of book/plan.md, one function a kind of claim. They know nothing of networks or files.

A quantity comes as one value a seed. `estimate` gives mean and interval; a rule takes estimates and gives one of these words.
"""

import math
from collections.abc import Mapping, Sequence

from ..estimates import Estimate

REPRODUCED, PARTLY, NOT, INCONCLUSIVE = "reproduced", "partly reproduced", "not reproduced", "inconclusive"
KINDEST = (REPRODUCED, PARTLY, INCONCLUSIVE, NOT)  # to a claim, first to last
LEAST_SEEDS = 3
MOST_RISE = 0.5  # C5: times plain training


def _enough(*estimates: Estimate | None) -> bool:
    return all(one is not None and one.n >= LEAST_SEEDS for one in estimates)


def took_hold(alignment: float, plain: Sequence[float], *, least: float = 0.1, deviations: float = 10.0) -> bool | None:
    """Did GFA do anything to a network? Its mean alignment on validation images is at least `least`, and so many sd above plain's.

    plain: the same number of plainly trained networks, one a seed; fewer than three have no standard deviation to speak of: None.
    """
    if len(plain) < LEAST_SEEDS:
        return None
    mean = math.fsum(plain) / len(plain)
    sd = math.sqrt(math.fsum((v - mean) ** 2 for v in plain) / (len(plain) - 1))
    return alignment >= least and alignment >= mean + deviations * sd


def gap(paper: Estimate | None, strict: Estimate | None, claimed: float) -> str:
    """C1 and C2. paper, strict: GFA minus adversarial training in points; claimed: the paper's number."""
    if not _enough(paper, strict):
        return INCONCLUSIVE
    if paper.mean >= claimed / 2 and paper.low > 0 and strict.low > 0:
        return REPRODUCED
    if paper.low > 0:
        return PARTLY
    return NOT if paper.high < claimed / 2 else INCONCLUSIVE


def ratio(paper: Estimate | None, strict: Estimate | None, claimed: float = 20.0) -> str:
    """C3 and C4. paper, strict: distance of GFA over that of plain training; claimed: the lower end of the paper's range."""
    if not _enough(paper, strict):
        return INCONCLUSIVE
    if paper.low >= claimed / 2 and strict.low >= claimed / 2:
        return REPRODUCED
    if (paper.low >= 2 and strict.low >= 2) or paper.low >= claimed / 2:
        return PARTLY
    return NOT if paper.high < claimed / 2 else INCONCLUSIVE


def suppressed(training_loss: Estimate | None, margin: Estimate | None, most: float = MOST_RISE, *, control: Estimate | None = None) -> str:
    """C5. Worst tangential rise of a loss, GFA over plain training.

    control: the margin's rise over the image's own margin, GFA over plain training; where it is known, the claim needs it too,
    since a network that says everything more softly has a flatter loss and as near mistakes.
    """
    if not _enough(training_loss, margin):
        return INCONCLUSIVE
    known = control is not None
    if training_loss.high <= most and margin.high <= most and not (known and control.high > most):
        return REPRODUCED
    if training_loss.high < 1:
        return PARTLY
    return NOT if training_loss.low > most else INCONCLUSIVE


def everywhere(words: Sequence[str]) -> str:
    """C6. The words of the same claim on several architectures."""
    if all(word == REPRODUCED for word in words):
        return REPRODUCED
    if any(word in (REPRODUCED, PARTLY) for word in words):
        return PARTLY
    return NOT if all(word == NOT for word in words) else INCONCLUSIVE


def cheaper(ours: Mapping[str, Mapping[str, float]], theirs: Mapping[str, float]) -> str:
    """C7. Quartiles of the time of an epoch: {variant: {"q25", "median", "q75"}} against those of adversarial training."""
    if not ours:
        return INCONCLUSIVE
    below = [one["q75"] < theirs["q25"] for one in ours.values()]
    return REPRODUCED if all(below) else PARTLY if any(below) else NOT


def raised(signed: Estimate | None, absolute: Estimate | None, layers: Estimate | None) -> str:
    """C8. Alignment of adversarial minus plain training: signed and in magnitude at the input, signed over all layers."""
    if not _enough(signed, absolute, layers):
        return INCONCLUSIVE
    if signed.low > 0:
        return REPRODUCED
    if absolute.low > 0 or layers.low > 0:
        return PARTLY
    return NOT if signed.high <= 0 else INCONCLUSIVE
