"""The grid of runs: one CSV file a profile, one line a training run and how it is attacked.

A column is a parameter of book/03_train.ipynb (`objective`, `lam`, `seed`, `width`, ...); an empty field keeps the profile's
value. Columns that start with "attack_" are parameters of book/04_attacks.ipynb: `attack_suites` (separated by blanks; a
run without them is not attacked), `attack_norm`, `attack_eps`, `attack_images`, `attack_which`. `seed` may hold several
seeds separated by blanks: the line stands for as many runs.
"""

import ast
import csv
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from deepdefense import config, protocol, suites

ATTACK = {"suites": None, "norm": "linf", "eps": None, "images": None, "which": "last"}
PREFIX = "attack_"


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
    seed: int

    def parameters(self) -> dict:
        """As the notebook takes them."""
        given = {"suites": ",".join(self.suites), "norm": self.norm, "eps": self.eps, "which": self.which, "seed": self.seed}
        return given | ({} if self.images is None else {"n_images": self.images})


@dataclass(frozen=True)
class Row:
    """One run: its configuration, the parameters of book/03_train.ipynb that make it, and its attacks, if any."""

    config: config.TrainConfig
    parameters: dict
    attack: Attack | None

    @cached_property
    def name(self) -> str:
        return self.config.name()

    def report(self, test_images: int) -> str:
        """Folder of its report below the runs, where the data set has `test_images` test images."""
        attack = self.attack
        n = test_images if attack.images is None else attack.images
        folder = protocol.report_folder(eps=attack.eps, norm=attack.norm, which=attack.which, n=n, seed=attack.seed)
        return f"{self.name}/{folder}"


def _value(text: str):
    """A field as Python sees it: a number, True, a list; anything else is text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _attack(fields: dict, run: config.TrainConfig) -> Attack | None:
    given = ATTACK | {name: _value(text) for name, text in fields.items() if text}
    if given["suites"] is None:
        if any(fields.values()):
            raise ValueError(f"{PREFIX}suites must be given where {', '.join(PREFIX + n for n in fields if fields[n])} is")
        return None
    chosen = tuple(str(given["suites"]).split())
    for name in chosen:
        if name not in suites.SUITES:
            raise ValueError(f"{PREFIX}suites must be among {', '.join(suites.SUITES)}; got {name!r}")
    if given["norm"] not in protocol.NORMS or given["which"] not in ("last", "best"):
        raise ValueError(f"{PREFIX}norm must be linf or l2 and {PREFIX}which last or best; got {given['norm']!r}, {given['which']!r}")
    if given["images"] is not None and not (type(given["images"]) is int and given["images"] >= 1):
        raise ValueError(f"{PREFIX}images must be a whole number of at least 1; got {given['images']!r}")
    eps = given["eps"] if given["eps"] is not None else run.val_eps if given["norm"] == "linf" else 0.5
    return Attack(chosen, given["norm"], eps, given["images"], given["which"], run.seed)


def _rows(line: dict, profile: str) -> list[Row]:
    """The runs of one line, one for each of its seeds."""
    attack = {name.removeprefix(PREFIX): text for name, text in line.items() if name.startswith(PREFIX)}
    for name in attack:
        if name not in ATTACK:
            raise ValueError(f"unknown column {PREFIX + name!r}; allowed: {', '.join(PREFIX + n for n in ATTACK)}")
    given = {name: _value(text) for name, text in line.items() if text and not name.startswith(PREFIX)}
    rows = []
    for seed in str(given.pop("seed", 0)).split():
        parameters = given | {"profile": profile, "seed": _value(seed)}
        run = config.make(**parameters)
        rows.append(Row(run, parameters, _attack(attack, run)))
    return rows


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
            made = _rows({name.strip(): text.strip() for name, text in line.items()}, profile)
        except ValueError as error:
            raise GridError(f"{path.name}, line {number}: {error}") from error
        for row in made:
            if row.name in rows:
                raise GridError(f"{path.name}, line {number}: the run {row.name} is in the grid already")
            rows[row.name] = row
    return rows
