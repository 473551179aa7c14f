"""Chapter 3 draws what a history holds, also one from before a field was recorded, and says how a run ended."""

import matplotlib
import nbformat
import pytest

from deepdefense.objectives import closed_loop
from deepdefense.storage import paths
from replication.chapters import train

matplotlib.use("Agg")


def record(*, target=None, new=True, epochs=3, objective="gfa-first", **fields):
    """The record of a run whose every number is its own, so that a line shows what it was drawn from."""
    rows = []
    for epoch in range(1, epochs + 1):
        row = {"epoch": epoch, "finite": True, "at_chance": epoch == 2, "lam": 0.5 * epoch, "val_accuracy": 0.3, "val_robust_accuracy": 0.2}
        row["val_alignment"] = 0.01 * epoch
        if new:
            row |= {"train_subset_alignment": 0.02 * epoch, "val_alignment_weighted": 0.03, "train_subset_alignment_weighted": 0.04}
            taps = {"body.conv1": {"mean": 0.1 * epoch, "weighted": None}, "body.fc2": {"mean": 0.2, "weighted": 0.3}}
            row |= {"val_alignment_taps": taps, "train_subset_alignment_taps": taps}
        if target:
            row |= {"goal": target * epoch / epochs, "train_reached": 0.05 * epoch}
        rows.append(row)
    config = {
        "objective": objective,
        "lam": 0.0 if target or objective == "standard" else 0.5,
        "options": {"target": target} if target else {},
    }
    return {
        "config": {**config, "epochs": epochs, "stop_at_chance": 2},
        "history": rows,
        "status": "finished",
        "collapse_epochs": [],
        **fields,
    }


def drawn(ax) -> dict[str, list[float]]:
    return {line.get_label(): list(line.get_ydata()) for line in ax.lines if not line.get_label().startswith("_")}


def test_a_closed_loop_shows_its_lambda_its_goal_and_what_it_reached():
    loop, plain = record(target=0.3), record(objective="standard")
    clean, _, lam = train.training_curves([plain, loop]).axes
    assert drawn(lam) == {"GFA-FIRST, target 0.3": [0.5, 1.0, 1.5]}, "plain training has no λ to show"
    crosses = [line for line in clean.lines if line.get_marker() == "x"]
    assert [list(line.get_xdata()) for line in crosses] == [[2], [2]]
    mean, weighted = map(drawn, train.alignment_curves([loop]).axes)
    assert mean["GFA-FIRST, target 0.3: goal"] == pytest.approx([0.1, 0.2, 0.3])
    assert mean["GFA-FIRST, target 0.3: the batches"] == pytest.approx([0.05, 0.1, 0.15])
    assert mean["GFA-FIRST, target 0.3: training"] == pytest.approx([0.02, 0.04, 0.06])
    assert mean["GFA-FIRST, target 0.3: validation"] == pytest.approx([0.01, 0.02, 0.03])
    assert weighted == {"GFA-FIRST, target 0.3: training": [0.04] * 3, "GFA-FIRST, target 0.3: validation": [0.03] * 3}


def test_a_record_from_before_draws_what_it_has():
    old = record(new=False)
    mean, weighted = train.alignment_curves([old]).axes
    assert drawn(mean) == {"GFA-FIRST, λ = 0.5: validation": [0.01, 0.02, 0.03]} and not drawn(weighted)
    assert weighted.get_title().endswith("not recorded") and train.tap_curves(old) is None
    for row in old["history"]:
        del row["lam"]
    assert not drawn(train.training_curves([old]).axes[-1])


def test_every_layer_is_drawn_and_what_is_not_finite_left_out():
    mean, _, weighted, _ = map(drawn, train.tap_curves(record()).axes)
    assert mean == {"conv1": pytest.approx([0.1, 0.2, 0.3]), "fc2": [0.2] * 3} and weighted == {"fc2": [0.3] * 3}


def test_an_epoch_that_is_not_finite_is_left_out():
    broken = record()
    broken["history"].append({"epoch": 4, "finite": False})
    assert len(train.training_curves([broken]).axes[0].lines[0].get_xdata()) == 3 and train.tap_curves(broken)


@pytest.mark.parametrize(
    ("chance", "fields", "words"),
    [
        ([False, True, True], dict(status="collapsed", stopped_epoch=3), "COLLAPSED: it stopped at epoch 3 of 9: at chance for 2 epochs."),
        ([True, True, True], dict(status="collapsed", stopped_epoch=3), "stopped at epoch 3 of 9: at chance for 3 epochs."),
        ([False, False, True], dict(status="collapsed", stopped_epoch=3), "at chance for 1 epoch."),
        ([False, True, True], dict(status="collapsed", stopped_epoch=None), "at the end its validation accuracy"),
        ([False, True, True], dict(status="collapsed"), "at the end its validation accuracy"),
        ([False, False, False], dict(status="diverged", stopped_epoch=3), "NaN, and training stopped at epoch 3 of 9."),
        ([False, False, False], dict(status="diverged"), "training stopped there."),
    ],
)  # fmt: skip
def test_where_and_why_a_run_was_stopped_is_said(chance, fields, words, capsys):
    ended = record(**fields)
    ended["config"]["epochs"] = 9
    for row, at_chance in zip(ended["history"], chance, strict=True):
        row["at_chance"] = at_chance
    train.show_status(ended)
    assert words in capsys.readouterr().out


def test_the_page_gives_the_numbers_of_the_loop():
    text = "\n".join(cell.source for cell in nbformat.read(paths.root() / "book" / "03_train.ipynb", as_version=4).cells)
    loop = closed_loop
    assert f"m &\\leftarrow {loop.MEMORY:g}\\,m + {1 - loop.MEMORY:.1g}\\,\\bar a" in text
    assert f"e^{{{loop.KAPPA:g}\\,(\\mathrm{{goal}}(t) - m)}},\\; {loop.LOWEST:g},\\; {loop.HIGHEST:g}" in text
    assert f"\\min(1,\\; t/{loop.RISE:g})" in text and f"from $\\lambda = {loop.START:g}$, or from `lam` where that is given" in text
    assert "), and $m = 0$ (`deepdefense.objectives.closed_loop`)" in text
