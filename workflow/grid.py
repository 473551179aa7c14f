"""The grid of runs: one CSV file a profile, one line a training run and how it is attacked.

A column is a parameter of book/03_train.ipynb (`objective`, `lam`, `seed`, `width`, ...); an empty field keeps the profile's
value. Columns that start with "attack_" are parameters of book/04_attacks.ipynb: `attack_suites` (separated by blanks; a
run without them is not attacked), `attack_norm`, `attack_eps`, `attack_images`, `attack_which`, `attack_mode`.
`measure_images`: on how many test images book/09_measure.ipynb measures the run (empty: it does not). `seed` may hold several
seeds separated by blanks: the line stands for as many runs. A run may stand on several lines, to be attacked in as many ways.
"""

import ast
import csv
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from deepdefense import objectives, training
from deepdefense.arguments import check_choice, check_whole
from deepdefense.attacks import suites
from deepdefense.evaluation import protocol, threat
from replication import profiles, records

ATTACK = {"suites": None, "norm": "linf", "eps": None, "images": None, "which": "last", "mode": "full"}
PREFIX, MEASURE = "attack_", "measure_images"


class GridError(ValueError):
    """A grid cannot be read; the message names the file, the line and what is wrong."""


@dataclass(frozen=True)
class Attack:
    """How a run is attacked: parameters of book/04_attacks.ipynb."""

    suites: tuple[str, ...]
    norm: str
    eps: float
    images: int | None
    which: str
    mode: str
    seed: int

    def parameters(self) -> dict:
        """As the notebook takes them."""
        names = ("norm", "eps", "which", "mode", "seed")
        given = {"suites": ",".join(self.suites), **{name: getattr(self, name) for name in names}}
        return given | ({} if self.images is None else {"n_images": self.images})

    def folder(self, test_images: int) -> str:
        """Folder of the report, within that of the run."""
        n = test_images if self.images is None else self.images
        return records.report_folder(eps=self.eps, norm=self.norm, which=self.which, n=n, seed=self.seed, mode=self.mode)


@dataclass(frozen=True)
class Row:
    """One run: its configuration, the parameters of book/03_train.ipynb that make it, its attacks, the images it is measured on."""

    config: training.TrainConfig
    parameters: dict
    attacks: tuple[Attack, ...] = ()
    measure: int | None = None

    @cached_property
    def name(self) -> str:
        return self.config.name()

    def reports(self, test_images: int) -> dict[str, Attack]:
        """{folder of the report below the runs: attack}, where the data set has `test_images` test images."""
        return {f"{self.name}/{attack.folder(test_images)}": attack for attack in self.attacks}

    @property
    def measures(self) -> str:
        """Folder of its measures below the runs."""
        return f"{self.name}/{records.measures_folder('last', self.measure, self.config.seed)}"


def _value(text: str):
    """A field as Python sees it: a number, True, a list; anything else is text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _attack(fields: dict, run: training.TrainConfig) -> Attack | None:
    given = ATTACK | {name: _value(text) for name, text in fields.items() if text}
    if given["suites"] is None:
        if any(fields.values()):
            raise ValueError(f"{PREFIX}suites must be given where {', '.join(PREFIX + n for n in fields if fields[n])} is")
        return None
    chosen = tuple(str(given["suites"]).split())
    for name in chosen:
        if name not in suites.SUITES:
            raise ValueError(f"{PREFIX}suites must be among {', '.join(suites.SUITES)}; got {name!r}")
    if given["norm"] not in threat.BALL_NORMS or given["which"] not in ("last", "best"):
        raise ValueError(f"{PREFIX}norm must be linf or l2 and {PREFIX}which last or best; got {given['norm']!r}, {given['which']!r}")
    check_choice(f"{PREFIX}mode", given["mode"], protocol.MODES)
    if given["images"] is not None:
        check_whole(**{f"{PREFIX}images": given["images"]})
    eps = given["eps"] if given["eps"] is not None else run.val_eps if given["norm"] == "linf" else 0.5
    return Attack(chosen, given["norm"], eps, given["images"], given["which"], given["mode"], run.seed)


def _rows(line: dict, profile: str) -> list[Row]:
    """The runs of one line, one for each of its seeds."""
    own = {name for objective in objectives.OBJECTIVES for name in objectives.option_defaults(objective)}  # attack_steps is one
    attack = {name.removeprefix(PREFIX): text for name, text in line.items() if name.startswith(PREFIX) and name not in own}
    for name in attack:
        if name not in ATTACK:
            raise ValueError(f"unknown column {PREFIX + name!r}; allowed: {', '.join(PREFIX + n for n in ATTACK)}")
    given = {name: _value(text) for name, text in line.items() if text and (name in own or not name.startswith(PREFIX))}
    measure = given.pop(MEASURE, None)
    if measure is not None:
        check_whole(**{MEASURE: measure})
    rows = []
    for seed in str(given.pop("seed", 0)).split():
        parameters = given | {"profile": profile, "seed": _value(seed)}
        run = profiles.make(**parameters)
        found = _attack(attack, run)
        rows.append(Row(run, parameters, (found,) if found else (), measure))
    return rows


def _merged(earlier: Row, row: Row) -> Row:
    """One run of two lines; a ValueError if the second adds nothing new."""
    same = {replace(attack, suites=()) for attack in earlier.attacks} & {replace(attack, suites=()) for attack in row.attacks}
    if same or not row.attacks or (row.measure and earlier.measure):
        raise ValueError(f"the run {row.name} is in the grid already, and this line attacks it in no new way")
    return replace(earlier, attacks=earlier.attacks + row.attacks, measure=earlier.measure or row.measure)


def load(path: str | Path, profile: str) -> dict[str, Row]:
    """{name of the run: row} of the grid in `path`, whose empty fields are those of `profile`; a GridError names a bad line."""
    path = Path(path)
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
    except OSError as error:
        raise GridError(f"the grid {path} cannot be read: {error.strerror}") from error
    rows: dict[str, Row] = {}
    for number, line in enumerate(lines, 2):
        if None in line or None in line.values():
            raise GridError(f"{path.name}, line {number}: it must have as many fields as the first line")
        try:
            for row in _rows({name.strip(): text.strip() for name, text in line.items()}, profile):
                rows[row.name] = _merged(rows[row.name], row) if row.name in rows else row
        except ValueError as error:
            raise GridError(f"{path.name}, line {number}: {error}") from error
    return rows
