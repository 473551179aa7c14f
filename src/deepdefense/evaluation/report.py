"""What came of an evaluation: per image and attack as Parquet, in summary as JSON with RobustBench's fields among it.

Per attack and image: did it succeed (a wrong answer within eps), the model's answer to the image it returned, that
image's distance (L∞ and L2; ∞ where the model is right on it) and its margin loss (largest wrong logit minus the
right one). Images that the attack was not given, wrong from the start or broken by an earlier part of AutoAttack, are
null.

A report in the mode "worst_case" has its attacks in the order in which they ran, each on what the ones before had left.
"""

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..storage import files

JSON_NAME, PARQUET_NAME = "report.json", "report.parquet"
DISTANCES = ("linf", "l2")
THREAT_MODELS = {"linf": "Linf", "l2": "L2"}
ROBUSTBENCH = (
    "link",
    "name",
    "authors",
    "additional_data",
    "number_forward_passes",
    "dataset",
    "venue",
    "architecture",
)


@dataclass(frozen=True)
class Outcome:
    """What one attack did to N images; arrays (N,), see the head of this file. Where `attacked` is False, they mean
    nothing.

    cost: {"images", "seconds", "forward", "backward"}, passes summed over images; settings: the attack, in words
    bounded: it was given eps; cumulative: it was given only what the parts before it had left
    """

    attacked: np.ndarray
    success: np.ndarray
    prediction: np.ndarray
    linf: np.ndarray
    l2: np.ndarray
    loss: np.ndarray
    cost: dict
    settings: str
    bounded: bool = True
    cumulative: bool = False

    @classmethod
    def of(
        cls,
        attacked: np.ndarray,
        arrays: Mapping[str, np.ndarray],
        *,
        cost: dict,
        settings: str,
        bounded: bool = True,
        cumulative: bool = False,
    ) -> "Outcome":
        """With the arrays "success", "prediction", "linf", "l2" and "loss" from `arrays`."""
        success, prediction, linf, l2, loss = (arrays[name] for name in ("success", "prediction", *DISTANCES, "loss"))
        return cls(attacked, success, prediction, linf, l2, loss, cost, settings, bounded, cumulative)

    def columns(self) -> dict[str, pa.Array]:
        """{field: column}, null where the image was not attacked."""
        types = {
            "success": pa.bool_(),
            "prediction": _class_type(self.prediction),
            "linf": pa.float32(),
            "l2": pa.float32(),
            "loss": pa.float32(),
        }
        return {name: pa.array(getattr(self, name), kind, mask=~self.attacked) for name, kind in types.items()}


@dataclass(frozen=True)
class Report:
    """An evaluation of one model on N images.

    label, prediction: (N,), the true classes and the model's answers to the clean images
    outcomes: {"suite/attack": Outcome}; about: what else the summary says, JSON
    taken: what was read from the folder instead of computed, {"pieces", "of", "made": [first, last]}; not written to it,
    so that the files do not depend on how often a call was interrupted
    """

    label: np.ndarray
    prediction: np.ndarray
    outcomes: dict[str, Outcome]
    about: dict
    taken: dict | None = None

    @property
    def cascade(self) -> bool:
        """Was each attack given only what all the attacks before it had left?"""
        return self.about.get("mode") == "worst_case"

    @property
    def clean(self) -> np.ndarray:
        """Right on the clean image, (N,) bool."""
        return self.label == self.prediction

    @property
    def suites(self) -> list[str]:
        return list(dict.fromkeys(key.split("/")[0] for key in self.outcomes))

    def in_suite(self, suite: str, *, bounded: bool | None = None) -> list[str]:
        """The attacks of `suite`, in order; a ValueError if it was not run.

        bounded: only those that were given eps (True), or only those of minimum norm (False); there may be none
        """
        found = [key for key in self.outcomes if key.split("/")[0] == suite]
        if not found:
            raise ValueError(f"no attack of suite {suite!r} was run; there are {', '.join(self.suites) or 'none'}")
        return [key for key in found if bounded in (None, self.outcomes[key].bounded)]

    def robust(self, *keys: str) -> np.ndarray:
        """Right on the clean image and after each attack of `keys` (default: all of them, the worst case), (N,) bool.

        A part of AutoAttack stands for itself and the parts before it; in a cascade each attack does. A ValueError if no
        attack was run: a worst case over nothing is no number; and for a key that is not among `outcomes`.
        """
        if not self.outcomes:
            raise ValueError("no attack was run, so there is no robust accuracy")
        for key in keys:
            if key not in self.outcomes:
                raise ValueError(f"no attack {key!r} was run; there are {', '.join(self.outcomes)}")
        mask = self.clean.copy()
        for key in keys or self.outcomes:
            names = [key]
            if self.outcomes[key].cumulative:
                names = list(self.outcomes) if self.cascade else self.in_suite(key.split("/")[0])
                names = names[: names.index(key) + 1]
            for name in names:
                outcome = self.outcomes[name]
                mask &= ~(outcome.attacked & outcome.success)
        return mask

    def table(self) -> pa.Table:
        """One row an image."""
        columns = {
            "index": pa.array(np.arange(len(self.label)), pa.int32()),
            "label": pa.array(self.label, _class_type(self.label)),
            "prediction": pa.array(self.prediction, _class_type(self.prediction)),
            "robust": pa.array(self.robust()),
        }
        for key, outcome in self.outcomes.items():
            columns |= {f"{key}/{name}": column for name, column in outcome.columns().items()}
        return pa.table(columns)

    def distance(self, key: str, norm: str | None = None) -> np.ndarray:
        """Distances that attack `key` needed for the images that are right from the start, in the report's norm by
        default."""
        return getattr(self.outcomes[key], norm or self.about["norm"])[self.clean & self.outcomes[key].attacked]

    def summary(self) -> dict:
        """JSON: accuracies in [0, 1] with 95 % Wilson intervals over images, costs per image, and `about`.

        A cascade tells no suite's own number, and none of a minimum-norm attack's distances: it saw the rest only.
        """
        attacks = {}
        for key, outcome in self.outcomes.items():
            cost, images = outcome.cost, max(outcome.cost["images"], 1)
            attacks[key] = proportion(self.robust(key)) | {
                "attacked": int(outcome.attacked.sum()),
                "succeeded": int((outcome.attacked & outcome.success).sum()),
                "distance": None if outcome.bounded or self.cascade else _quantiles(self.distance(key)),
                "seconds": cost["seconds"],
                "seconds_per_image": cost["seconds"] / images,
                "forward_passes_per_image": cost["forward"] / images,
                "backward_passes_per_image": cost["backward"] / images,
                "cost": cost,
                "settings": outcome.settings,
                "bounded": outcome.bounded,
                "cumulative": outcome.cumulative,
            }
        return {
            "kind": "attacks",
            **self.about,
            "n": len(self.label),
            "clean": proportion(self.clean),
            "worst_case": proportion(self.robust()),
            "suites": {suite: proportion(self.robust(*self.in_suite(suite))) for suite in self.suites if not self.cascade},
            "attacks": attacks,
            "robustbench": self.robustbench(),
            **({} if self.taken is None else {"taken": self.taken}),
        }

    @property
    def _has_autoattack(self) -> bool:
        """Did AutoAttack run whole, and on all images?"""
        left_out = [entry["attack"].split("/")[0] for entry in self.about.get("left_out", [])]
        alone = not self.cascade or self.suites == ["standard"]
        return "standard" in self.suites and "standard" not in left_out and alone

    def robustbench(self) -> dict:
        """The fields of RobustBench's `model_info` files, as they have them: percentages as text, None where not known.

        `external` is the worst case over all suites where it is below AutoAttack's; `flagged` the kinds of its
        warnings.
        """
        percent = {name: f"{100 * mask.mean():.2f}" for name, mask in (("clean", self.clean), ("worst", self.robust()))}
        standard = f"{100 * self.robust(*self.in_suite('standard')).mean():.2f}" if self._has_autoattack else None
        flagged = [warning["kind"] for warning in self.about["warnings"]]
        below = standard is None or float(percent["worst"]) < float(standard)
        return {
            **{name: self.about.get(name) for name in ROBUSTBENCH},
            "threat_model": THREAT_MODELS[self.about["norm"]],
            "eps": _eps_words(self.about["eps"], self.about["norm"]),
            "clean_acc": percent["clean"],
            "reported": self.about.get("reported"),
            "autoattack_acc": standard,
            "external": percent["worst"] if below else None,
            "unreliable": bool(flagged),
            "flagged": sorted(set(flagged)),
            "footnote": self.about.get("footnote"),
        }

    def write(self, folder: str | Path) -> list[Path]:
        """Write report.parquet and report.json into `folder`, each whole or not at all."""
        buffer = io.BytesIO()
        pq.write_table(self.table(), buffer)
        return [
            files.write_bytes(Path(folder) / PARQUET_NAME, buffer.getvalue()),
            files.write_json(Path(folder) / JSON_NAME, replace(self, taken=None).summary()),
        ]

    @classmethod
    def read(cls, folder: str | Path) -> "Report":
        """The report that `write` left in `folder`; a ResultsError if one of its two files is damaged, or not of the other."""
        record = files.read_json(Path(folder) / JSON_NAME)
        try:
            table = pq.read_table(Path(folder) / PARQUET_NAME)
        except (OSError, pa.ArrowInvalid) as error:
            raise files.ResultsError(f"could not read {Path(folder) / PARQUET_NAME}: {error}") from error
        try:
            return cls._of(record, table)
        except (KeyError, TypeError, AttributeError, pa.ArrowInvalid) as error:
            raise files.ResultsError(
                f"{Path(folder) / JSON_NAME} and {PARQUET_NAME} are not the two files of one report ({error}); delete them, and the "
                "same call of evaluate makes them again"
            ) from error

    @classmethod
    def _of(cls, record: dict, table: pa.Table) -> "Report":
        if record["n"] != len(table):
            raise KeyError(f"{record['n']} images in one and {len(table)} in the other")
        outcomes = {}
        for key, row in record["attacks"].items():
            attacked = table[f"{key}/success"].is_valid().to_numpy()
            arrays = {
                "success": _filled(table[f"{key}/success"], False),
                "prediction": _filled(table[f"{key}/prediction"], -1),
            }
            arrays |= {name: _filled(table[f"{key}/{name}"], math.nan) for name in (*DISTANCES, "loss")}
            same = {name: row[name] for name in ("cost", "settings", "bounded", "cumulative")}
            outcomes[key] = Outcome.of(attacked, arrays, **same)
        made = {"kind", "n", "clean", "worst_case", "suites", "attacks", "robustbench"}
        about = {key: value for key, value in record.items() if key not in made}
        return cls(table["label"].to_numpy(), table["prediction"].to_numpy(), outcomes, about)


def unanswered(part: str, times: int) -> dict:
    """The warning that the model gave no answer to `times` images that the attack `part` returned."""
    message = f"the model's logits are NaN for {times} perturbed images, or infinite for several classes at once; "
    message += "no answer counts as a wrong one"
    return {"part": part, "kind": "NaN logits", "message": message, "times": times}


def proportion(mask: np.ndarray) -> dict[str, float]:
    """The share of True in `mask` with its 95 % Wilson interval."""
    low, high = wilson(int(mask.sum()), len(mask))
    return {"accuracy": float(mask.mean()), "low": low, "high": high}


def _class_type(classes: np.ndarray) -> pa.DataType:
    """16 bits for class indices, as long as they fit."""
    return pa.int16() if classes.max(initial=0) <= np.iinfo(np.int16).max else pa.int32()


def _quantiles(distance: np.ndarray) -> dict[str, float | None]:
    """Quartiles of `distance`, in which failures are ∞; None for an infinite or missing one."""
    ordered = np.sort(distance)
    picked = {name: ordered[math.ceil(q * len(ordered)) - 1] if len(ordered) else math.inf for name, q in QUARTILES.items()}
    return {name: float(value) if math.isfinite(value) else None for name, value in picked.items()}


QUARTILES: Mapping[str, float] = {"q25": 0.25, "median": 0.5, "q75": 0.75}


def _eps_words(eps: float, norm: str) -> str:
    levels = round(255 * eps)
    return f"{levels}/255" if norm == "linf" and 1 <= levels <= 32 and abs(eps - levels / 255) < 1e-9 else f"{eps:g}"


def _filled(column: pa.ChunkedArray, missing) -> np.ndarray:
    return column.fill_null(missing).to_numpy()


def wilson(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927), 95 % by default; (0, 1) if n is 0."""
    if n == 0:
        return 0.0, 1.0
    p, z2 = successes / n, z * z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * (p * (1 - p) / n + z2 / (4 * n * n)) ** 0.5
    return max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half))  # min and max with p: rounding at 0 and 1
