"""Comparisons of our attacks with others' code: they see a difference where there is one, go on after a kill, leave no trace."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import piecewise as pw
import pyarrow.parquet as pq
import pytest
import torch
from defences import Small, small_images
from nets import global_random_state
from pyautoattack import AutoAttack

from deepdefense import evaluate
from deepdefense.attacks import autoattack
from deepdefense.evaluation import standard_suite
from deepdefense.storage import files
from replication.experiments import agreement

OPTIONS = dict(eps=0.02, seed=5, batch_size=7)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    """AutoAttack with 6 steps and 30 queries, ours and theirs alike."""
    made = AutoAttack.__init__

    def shorter(self, *arguments, **options):
        made(self, *arguments, **options)
        for attack in (self.apgd, self.apgd_targeted):
            attack.n_iter, attack.n_iter_2, attack.n_iter_min, attack.size_decr = 6, 1, 1, 1
        self.fab.n_iter, self.square.n_queries = 6, 30

    monkeypatch.setattr(AutoAttack, "__init__", shorter)
    monkeypatch.setitem(standard_suite.standard.__kwdefaults__, "steps", 6)
    monkeypatch.setitem(standard_suite.standard.__kwdefaults__, "queries", 30)


def test_part_by_part_is_the_authors_one_call():
    model, x, y = small_images(20, wrong=(3, 11))
    with torch.random.fork_rng():
        x_adv, y_adv = AutoAttack(model, norm="Linf", eps=0.02, seed=5).run_standard_evaluation(x, y, batch_size=7)
    before, tracer = global_random_state(), sys.gettrace()
    found = agreement.authors_autoattack(model, x, y, **OPTIONS)
    assert torch.equal(found.x_adv, x_adv) and torch.equal(found.prediction, y_adv)
    assert global_random_state() == before and sys.gettrace() is tracer
    ours = standard_suite.standard(model, x, y, **OPTIONS)
    assert torch.equal(found.broken_by, ours.broken_by) and set(found.broken_by.tolist()) >= {-1, 0, 1}
    two = agreement.authors_autoattack(model, x, y, parts=autoattack.PARTS[:2], **OPTIONS)
    reached = (ours.broken_by >= 0) & (ours.broken_by < 2)
    assert torch.equal(two.broken_by >= 0, reached) and torch.equal(two.x_adv[reached], x_adv[reached])
    assert torch.equal(two.x_adv[~reached], x[~reached])


@pytest.mark.parametrize("parts", [(), ("APGD-T",), ("APGD-CE", "Square")])
def test_parts_are_the_first_ones(parts):
    model, x, y = small_images(2)
    with pytest.raises(ValueError, match="parts must be the first of APGD-CE, APGD-T, FAB-T, Square; got"):
        agreement.authors_autoattack(model, x, y, parts=parts, **OPTIONS)


def test_everything_agrees_and_is_written_down(tmp_path):
    model, x, y = small_images(20, wrong=(3, 11))
    record = agreement.compare(model, x, y, folder=tmp_path, about={"name": "small"}, **OPTIONS)
    auto = record["autoattack"]
    assert (record["n"], record["clean"]) == (20, 18) and record["name"] == "small" and record["kind"] == "agreement"
    assert auto["identical images"] == auto["broken by the same part"] == 20 and auto["largest difference of a pixel"] == 0
    for accuracy in auto["accuracy"].values():
        assert accuracy["ours"] == accuracy["authors"]
    assert list(auto["accuracy"]) == list(autoattack.PARTS)
    assert files.read_json(tmp_path / "agreement.json") == record
    table = pq.read_table(tmp_path / "agreement.parquet")
    assert table["index"].to_pylist() == list(range(20)) and all(table["identical"].to_pylist())
    assert table["part ours"].to_pylist() == table["part authors"].to_pylist()
    wrong = np.isnan(table["deepfool l2 ours"].to_numpy())
    assert wrong.nonzero()[0].tolist() == [3, 11]


def test_a_difference_is_seen(tmp_path, monkeypatch):
    """Ours moved by the last bit on one image, and one of ours not broken at all."""
    model, x, y = small_images(20)
    real = standard_suite.standard

    def other(*arguments, **options):
        found = real(*arguments, **options)
        hit = (found.broken_by == 0).nonzero().flatten()
        found.x_adv[hit[0], 0, 0, 0] += 6e-8 * (1 if found.x_adv[hit[0], 0, 0, 0] < 0.5 else -1)
        found.x_adv[hit[1]], found.broken_by[hit[1]] = x[hit[1]], -1
        return found

    monkeypatch.setattr(agreement, "standard", other)
    record = agreement.compare(model, x, y, folder=tmp_path, **OPTIONS)
    auto = record["autoattack"]
    assert auto["identical images"] == 18 and auto["broken by the same part"] == 19
    ours, theirs = (auto["accuracy"]["Square"][by] for by in ("ours", "authors"))
    assert ours == pytest.approx(theirs + 1 / 20) and auto["largest difference of a pixel"] > 0.001


def test_what_an_evaluation_kept_is_read_and_not_run_again(tmp_path, monkeypatch):
    model, x, y = small_images(8)
    same = dict(eps=OPTIONS["eps"], seed=OPTIONS["seed"], chunk=OPTIONS["batch_size"])
    evaluate(model, x, y, suites="standard", folder=tmp_path, progress=False, **same)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    agreement.compare(model, x, y, folder=tmp_path, **OPTIONS)
    assert before and before == {path: path.stat().st_mtime_ns for path in before}
    made = {path.parent.name for path in tmp_path.rglob("*.safetensors")} - {path.parent.name for path in before}
    assert not [name for name in made if name.startswith("standard")], "AutoAttack ran again"


def test_a_killed_comparison_goes_on(tmp_path, monkeypatch):
    model, x, y = small_images(16)
    whole = agreement.compare(model, x, y, folder=tmp_path / "whole", **OPTIONS)
    calls, run = [], AutoAttack.run_standard_evaluation

    def dies(self, *arguments, **options):
        calls.append(self.attacks_to_run[0])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return run(self, *arguments, **options)

    monkeypatch.setattr(AutoAttack, "run_standard_evaluation", dies)
    with pytest.raises(KeyboardInterrupt):
        agreement.compare(model, x, y, folder=tmp_path / "cut", **OPTIONS)
    assert not (tmp_path / "cut" / "agreement.json").exists()
    again = agreement.compare(model, x, y, folder=tmp_path / "cut", **OPTIONS)
    assert calls == ["apgd-ce", "apgd-t", "fab-t", "fab-t", "square"]
    for record in (whole, again):
        record.pop("environment")
    assert again == whole
    with pytest.raises(ValueError, match="holds results with"):
        agreement.compare(Small(seed=1), x, y, folder=tmp_path / "cut", **OPTIONS)


def test_deepfools_reach_the_exact_distance_and_count_failures():
    model, x = pw.affine(), pw.greys(6)
    y = model(x).argmax(1)
    y[2] = (y[2] + 1) % 4  # wrong from the start
    far = agreement.deepfools(model, x, y, batch_size=4)
    for norm in ("l2", "linf"):
        exact = pw.affine_distance(model, x, model(x).argmax(1), norm)
        for by in ("ours", "foolbox"):
            found = far[f"{norm} {by}"]
            assert found.isnan().tolist() == [False, False, True, False, False, False]
            assert torch.allclose(found[~found.isnan()], exact[~found.isnan()].float(), rtol=0.05, atol=2e-4)
    far = {"l2 ours": torch.tensor([1.0, 1.06, torch.inf, torch.nan]), "l2 foolbox": torch.tensor([1.1, 1.0, 2.0, torch.nan])}
    told = agreement._compared(far, "l2")
    assert told["n"] == 3 and told["failures"] == {"ours": 1, "foolbox": 0}
    assert told["ours larger by more than 5 %"] == told["foolbox larger by more than 5 %"] == 1
    assert told["median"] == {"ours": pytest.approx(1.06), "foolbox": pytest.approx(1.1)}


def test_the_script_says_what_it_cannot_do(capsys):
    path = Path(__file__).resolve().parents[1] / "workflow" / "check_suite.py"
    spec = importlib.util.spec_from_file_location("benchmark_checked", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for arguments, said in (
        (["--suites", "gradient"], "--suites must hold standard"),
        (["--images", "0"], "must be 1 or more"),
        (["--parts", "5"], "--parts 1 to 4"),
        (["--models", "vgg"], "invalid choice"),
    ):
        with pytest.raises(SystemExit):
            script.main(arguments)
        assert said in capsys.readouterr().err
