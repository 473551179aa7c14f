"""What the README says runs as it is written, and the public paths that it and the pages name are there."""

import importlib
import re
from pathlib import Path

import pytest

from deepdefense import data, evaluation

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PATHS = (
    "deepdefense.evaluate",
    "deepdefense.Report",
    "deepdefense.gfa.gfa_loss",
    "deepdefense.html_report.page",
    "deepdefense.loading.load",
    "deepdefense.attacks",
    "deepdefense.attacks.paper.UNUSABLE",
    "deepdefense.attacks.paper.SUITE_PAPER",
    "deepdefense.data",
    "deepdefense.models",
    "deepdefense.losses",
    "deepdefense.geometry",
    "deepdefense.masking.report",
    "deepdefense.masking.substitutes",
    "deepdefense.objectives",
    "deepdefense.training.fit",
    "deepdefense.training.TrainConfig",
    "deepdefense.training.runs.load",
    "replication.claims.verdicts",
    "replication.search.main",
    "replication.example_defences",
)


def found(path: str):
    """What a dotted path names: a module, or what one holds."""
    parts = path.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for name in parts[cut:]:
            value = getattr(value, name)
        return value
    raise AttributeError(path)


@pytest.mark.parametrize("path", PATHS)
def test_public_paths(path):
    assert found(path) is not None


def test_every_public_attack_is_there():
    attacks = importlib.import_module("deepdefense.attacks")
    assert len(attacks.__all__) > 25 and all(getattr(attacks, name) is not None for name in attacks.__all__)


def test_the_example_runs_as_written(monkeypatch, capsys):
    """On fewer images: what is shown takes a minute."""
    (example,) = re.findall(r"```python\n(.*?)```", README, re.S)
    whole, evaluate = data.load("digits"), evaluation.evaluate
    monkeypatch.setattr(data, "load", lambda name: type(whole)(**{**vars(whole), "train": whole.train[:128]}))
    monkeypatch.setattr("deepdefense.evaluate", lambda model, x, y, **rest: evaluate(model, x[:4], y[:4], progress=False, **rest))
    exec(compile(example, "README.md", "exec"), {})
    assert '"autoattack_acc"' in capsys.readouterr().out.replace("'", '"')


def test_commands_name_files_that_are_there():
    named = set(re.findall(r"\b((?:workflow|tools|benchmarks|book|data|tests)/[\w./-]+\.(?:py|ipynb|md|csv))", README))
    assert len(named) > 4 and not [name for name in named if not (ROOT / name).exists()]
