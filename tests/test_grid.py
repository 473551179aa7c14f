"""The grid of runs, what the jobs depend on, and what they are expected to cost."""

import json
import logging
from pathlib import Path

import grid
import job_costs
import plan
import pytest
import reproduce
from progress import ProgressLine, job_name

from deepdefense.attacks import suites
from deepdefense.storage import code_files, paths
from deepdefense.training import resume
from replication import networks, planned, profiles, records, scope, search

ROOT = paths.root()


def load(tmp_path: Path, text: str, profile: str = "smoke") -> dict[str, grid.Row]:
    (tmp_path / "grid.csv").write_text(text)
    return grid.load(tmp_path / "grid.csv", profile)


def test_fields_are_parameters_of_the_notebooks(tmp_path):
    rows = load(tmp_path, 'objective,lam,seed,weights,attack_suites,attack_images\ngfa-deep,0.1,3 4,"[1, 2, 1, 1, 1]",gradient paper,7\n')
    assert [row.config.seed for row in rows.values()] == [3, 4]
    row = next(iter(rows.values()))
    assert row.config == profiles.make("smoke", "gfa-deep", lam=0.1, seed=3, weights=[1, 2, 1, 1, 1])
    assert row.parameters == {"objective": "gfa-deep", "lam": 0.1, "weights": [1, 2, 1, 1, 1], "profile": "smoke", "seed": 3}
    wanted = {"suites": "gradient,paper", "norm": "linf", "eps": 0.1, "which": "last", "mode": "full", "seed": 3, "n_images": 7}
    assert [attack.parameters() for attack in row.attacks] == [wanted] and row.measure is None
    assert list(row.reports(360)) == [f"{row.name}/report-last-linf-eps0.10000-n7-seed3"]


def test_a_run_on_two_lines_is_attacked_in_two_ways(tmp_path):
    head = "objective,seed,attack_suites,attack_norm,measure_images\n"
    rows = load(tmp_path, f"{head}standard,0 1,gradient,,50\nstandard,0,paper,l2,\n")
    zero, one = rows.values()
    assert [attack.norm for attack in zero.attacks] == ["linf", "l2"] and len(one.attacks) == 1
    assert list(zero.reports(360)) == [f"{zero.name}/report-last-{end}-n360-seed0" for end in ("linf-eps0.10000", "l2-eps0.50000")]
    assert zero.measure == 50 and zero.measures == f"{zero.name}/measures-last-n50-seed0"
    for second in ("standard,0,adaptive,,", "standard,0,,,", "standard,0,paper,l2,50"):
        with pytest.raises(grid.GridError, match="line 3: the run .* is in the grid already"):
            load(tmp_path, f"{head}standard,0 1,gradient,,50\n{second}\n")


def test_empty_fields_are_the_profile(tmp_path):
    (row,) = load(tmp_path, "objective,lam,attack_suites\nstandard,,\n", "quick").values()
    assert row.config == profiles.make("quick", "standard") and row.attacks == () and row.measure is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("objective,lamm\nstandard,1\n", "line 2: unknown parameter 'lamm'; did you mean 'lam'"),
        ("objective,lam\nstandard,\ngfa-first,-1\n", "line 3: lam must be a number from 0"),
        ("objective\nmagic\n", "line 2: objective must be one of"),
        ("objective\nstandard\nstandard\n", "line 3: the run digits-cnn-standard"),
        ("objective,lam\nstandard\n", "line 2: it must have as many fields as the first line"),
        ("objective,attack_suites\nstandard,all\n", "attack_suites must be among gradient"),
        ("objective,attack_eps\nstandard,0.1\n", "attack_suites must be given where attack_eps is"),
        ("objective,attack_speed\nstandard,1\n", "unknown column 'attack_speed'; allowed: attack_suites"),
        ("objective,attack_suites,attack_images\nstandard,gradient,0\n", "attack_images must be a whole number"),
        ("objective,attack_suites,attack_norm\nstandard,gradient,l3\n", "attack_norm must be linf or l2"),
        ("objective,seed\nstandard,-1\n", "seed must be a whole number"),
        ("objective,measure_images\nstandard,0\n", "measure_images must be a whole number of at least 1"),
    ],
)
def test_a_bad_line_is_named(tmp_path, text, said):
    with pytest.raises(grid.GridError) as raised:
        load(tmp_path, text)
    assert said in str(raised.value) and str(raised.value).startswith("grid.csv, ")


@pytest.mark.parametrize("profile", sorted(profiles.PROFILES))
def test_committed_grids(profile):
    """Every profile has a grid, it holds the runs that its pages show, and its plan is JSON."""
    made = plan.make(profile, ROOT)
    document = json.loads(json.dumps(plan.describe(made, job_costs.Costs()), allow_nan=False))
    seed = min(run["parameters"]["seed"] for run in document["runs"].values())
    names = {profiles.make(profile, objective, seed=seed).name() for objective in profiles.SHOWN}
    assert names <= set(document["runs"]) and {name.split("/")[0] for name in document["reports"]} >= names
    shown = {name: page.shown for name, page in made.pages.items() if page.shown}
    assert {"01_theory", "01b_alignment", "03_train", "04_attacks", "09_measure", "11_minimum_norm", "17_reviewers"} == set(shown)
    for page, wanted in shown.items():
        assert len(document["pages"][page]["runs"]) >= len(wanted)
    for job in [*document["runs"].values(), *document["pages"].values()]:
        for path in job["code"]:
            assert (ROOT / path.removeprefix("code/")).is_file()


@pytest.mark.parametrize(("field", "value"), [("val_size", 100), ("val_eps", 0.1)])
def test_a_field_that_the_notebook_cannot_set_is_said_before_any_run(tmp_path, field, value):
    (tmp_path / "own.csv").write_text(f"objective,{field}\nstandard,{value}\n")
    with pytest.raises(plan.PlanError, match=f"own.csv: book/03_train.ipynb, which trains the runs, has no parameter {field}"):
        plan.make("smoke", ROOT, tmp_path / "own.csv", "own").rows  # noqa: B018


@pytest.mark.parametrize("table", sorted((ROOT / "workflow" / "grids").glob("*.csv")), ids=lambda table: table.stem)
def test_every_committed_grid_can_be_run_by_the_workflow(table):
    assert plan.make("paper", ROOT, table, f"own-{table.stem}").rows


@pytest.mark.parametrize("name", [name for name in networks.READS if (ROOT / "data" / "results" / name).is_dir()])
def test_a_folder_of_headline_results_says_what_it_is_to_hold(name):
    made = plan.make(name, ROOT)
    assert json.loads((made.results / planned.GRID_JSON).read_text()) == made.manifest(), f"`make reproduce PROFILE={name}` writes it anew"


@pytest.mark.parametrize(("name", "profile"), [("gpu", "paper"), ("probes", "quick")])
def test_grids_of_other_architectures(name, profile):
    """Their networks have a worst case, which the page on the reviewers' questions reads: AutoAttack and the adaptive attacks."""
    rows = grid.load(ROOT / "workflow" / "grids" / f"{name}.csv", profile).values()
    assert {(row.config.data, row.config.model) for row in rows} <= set(scope.PROBES)
    assert all({"standard", "adaptive"} <= set(row.attacks[0].suites) for row in rows)


def test_results_that_pages_read_are_there():
    """What a page reads follows from the modules behind it."""
    pages = {name: page.folders() for name, page in plan.make("smoke", ROOT).pages.items()}
    assert pages["06_cost"] == ["benchmarks"] and set(networks.READS) == {records.FULL, records.REDUCED} <= set(
        pages["10_gradient_attacks"]
    )
    assert pages["02_setup"] == [] and set(search.READS) == set(records.SEARCH_FOLDERS) == set(pages["08_search"])
    assert {"masking", *networks.READS} <= set(pages["13_masking"]) and {"benchmarks", "checked"} == set(pages["07_checked"])
    for folders in pages.values():
        assert not folders or any(list((ROOT / "data" / "results" / folder).rglob("*.json")) for folder in folders)


def names(files) -> set[str]:
    return {file.relative_to(code_files.SOURCES / "deepdefense").as_posix() for file in files}


def test_what_a_module_depends_on():
    found = names(code_files.files_of("deepdefense.gfa"))
    assert {"gfa.py", "taps.py", "geometry.py", "losses.py"} <= found and not [name for name in found if "/" in name]
    found = names(code_files.files_of("deepdefense.attacks.hard_label"))
    assert found == {"attacks/hard_label.py", "attacks/contract.py", "inference.py", "own_generators.py", "arguments.py"}
    whole = names(code_files.files_of("deepdefense.training.loop"))
    assert {"training/loop.py", "gfa.py"} <= whole and "evaluation/protocol.py" not in whole
    assert names(code_files.files_of("deepdefense.training.loop", without=["deepdefense.training.config"])) < whole


@pytest.mark.parametrize("where", [{}, {"without": ["deepdefense.nothing"]}, {"without": ["nothing"]}])
def test_a_name_that_is_no_module_is_an_error(where):
    with pytest.raises(ValueError, match="there is no module '.*nothing' in deepdefense"):
        code_files.files_of("deepdefense.gfa" if where else "deepdefense.nothing", **where)


def test_what_a_source_depends_on():
    assert "masking/nine_checks.py" in names(code_files.files_of_source("import deepdefense.masking"))
    assert "evaluation/protocol.py" in names(code_files.files_of_source("import deepdefense as d\nd.evaluate"))
    assert names(code_files.files_of_source("from deepdefense.geometry import unit")) == {"geometry.py"}
    assert names(code_files.files_of_source("import torch\nfrom pathlib import Path")) == set()


def test_the_study_counts_where_it_is_asked_for():
    source = "from replication.claims import scoreboard"
    assert code_files.files_of_source(source) == ()
    found = {file.relative_to(code_files.SOURCES).as_posix() for file in code_files.files_of_source(source, plan.OURS)}
    rooms = {"quantities", "verdicts", "scoreboard"}
    assert {f"replication/claims/{name}.py" for name in rooms} | {"replication/networks.py", "replication/scope.py"} <= found
    assert "deepdefense/evaluation/report.py" in found


def test_a_training_depends_on_its_own_objective_and_no_other():
    first, plain = (names(resume.own_files(profiles.make("smoke", name))) for name in ("gfa-first", "standard"))
    assert "objectives/gfa.py" in first - plain and "objectives/standard.py" in plain - first
    for files in (first, plain):
        assert {"training/loop.py", "models.py", "data.py", "gfa.py"} <= files
        assert not files & {"training/config.py", "objectives/__init__.py", "arguments.py", "evaluation/protocol.py", "storage/files.py"}


def test_fingerprint_changes_with_content_and_place(tmp_path, monkeypatch):
    monkeypatch.setattr(code_files, "SOURCES", tmp_path)
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("x = 1\n")
    one, other = code_files.fingerprint([tmp_path / "a.py"]), code_files.fingerprint([tmp_path / "b.py"])
    assert one != other and len(one) == 16
    (tmp_path / "a.py").write_text("x = 2\n")
    assert code_files.fingerprint([tmp_path / "a.py"]) != one


def test_a_notebook_changes_with_its_code_or_its_prose_and_not_with_its_outputs(tmp_path):
    def digests(code, prose, output):
        cells = [
            {"cell_type": "markdown", "metadata": {}, "source": [prose]},
            {"cell_type": "code", "metadata": {}, "source": [code], "outputs": output, "execution_count": 1},
        ]
        path = tmp_path / "n.ipynb"
        path.write_text(json.dumps({"cells": cells}))
        return plan.Notebook(path).digest(), plan.Notebook(path).digest(prose=True)

    base = digests("x = 1", "one", [])
    assert digests("x = 1", "one", [{"output_type": "stream", "text": "a"}]) == base
    same_code, other_prose = digests("x = 1", "two", [])
    assert same_code == base[0] and other_prose != base[1]
    assert all(new != old for new, old in zip(digests("x = 2", "one", []), base, strict=True))


def test_costs_are_measured_once_and_what_jobs_took_counts_more(tmp_path, monkeypatch):
    rows = load(tmp_path, "objective,lam,attack_suites\nstandard,,gradient\ngfa-first,1,\ngfa-first,2,\n")
    probed = []

    def probe(row):
        probed.append(row.name)
        return {"step": 0.01, "forward": 0.001, "gpu_mb": 0}

    monkeypatch.setattr(job_costs, "probe", probe)
    known = job_costs.measure(rows.values(), tmp_path)
    assert len(probed) == 2, "the two values of λ cost the same"
    assert job_costs.measure(rows.values(), tmp_path) == known and len(probed) == 2
    row = next(iter(rows.values()))
    images, validation = 1437 - 150, 150 + 3 * 10 * 150
    assert known.training(row) == pytest.approx(15 + 12 * (images * 0.01 + validation * 0.001), abs=1)
    (attack,) = row.attacks
    assert known.attack(row, attack) == pytest.approx(15 + 360 * (142 + 2 * 141) * 0.001, abs=1)
    job_costs.remember({f"train {row.name}": 33.3, "page x": 4.0}, tmp_path)
    later = job_costs.load(tmp_path)
    assert later.training(row) == 34 and later.page("x") == 4 and later.page("y") == job_costs.NOTEBOOK_SECONDS
    (tmp_path / job_costs.MEASURED).write_text("{")
    assert job_costs.load(tmp_path).measured == {}


def test_probe_times_a_real_step(tmp_path):
    (row,) = load(tmp_path, "objective\ngfa-deep\n").values()
    found = job_costs.probe(row)
    assert 0 < found["forward"] < found["step"] < 1


def test_every_suite_has_its_passes():
    assert set(job_costs.PASSES) == set(suites.SUITES)


def event(kind, **fields):
    record = logging.LogRecord("snakemake", logging.INFO, "", 0, "", (), None)
    for name, value in {"event": kind, **fields}.items():
        setattr(record, name, value)
    return record


def test_progress_tells_what_is_left(monkeypatch):
    clock = iter([0.0, 0.0, 20.0, 20.0])
    monkeypatch.setattr("progress.time.monotonic", lambda: next(clock))
    said = []
    progress = ProgressLine({"train a": 10, "train b": 10, "site": 20}, workers=1, say=said.append)
    progress(event("job_info", jobid=1, rule_name="train", wildcards={"name": "a"}))
    progress(event("job_info", jobid=2, rule_name="trained", wildcards={}))
    progress(event("job_finished", job_id=1))
    assert said == ["[1/3] train a: 20.0 s; about 60 s left"], "twice as long as foretold: so are the others"
    progress(event("job_error", jobid=7, rule_name="train", log=[]))
    assert progress.failed == {"train": "it left no log; was it killed?"}


def test_names_and_durations_in_words():
    assert job_name("attack", {"name": "run", "report": "report-last"}) == "attack run last"
    assert job_name("measure", {"name": "run", "measures": "measures-last"}) == "measure run"
    assert [job_costs.in_words(s) for s in (40, 720, 12_600)] == ["40 s", "12 min", "3.5 h"]


def test_jobs_that_only_gather_are_not_counted():
    document = {"runs": {"a": {"seconds": 5}}, "reports": {"a/r": {"seconds": 7}}, "pages": {"p": {"seconds": 3}}}
    jobs = {
        "train a": ("train", {"name": "a"}, ""), "attack a r": ("attack", {"name": "a", "report": "r"}, ""),
        "page p": ("page", {"page": "p"}, ""), "all": ("all", {}, ""), "publish_record a": ("publish_record", {"name": "a"}, ""),
    }  # fmt: skip
    assert reproduce.expected(document, jobs) == {"train a": 5, "attack a r": 7, "page p": 3}


@pytest.mark.parametrize("name, value", [("attack_start", "zero"), ("attack_steps", 3)])
def test_an_option_of_an_objective_may_begin_as_the_columns_of_attacks_do(tmp_path, name, value):
    objective = {"attack_start": "gradalign", "attack_steps": "trades"}[name]
    (row,) = load(tmp_path, f"objective,{name},attack_suites\n{objective},{value},gradient\n").values()
    assert row.config.options[name] == value and row.attacks[0].suites == ("gradient",)
