"""Where data sets and runs are kept, in a folder that cannot be written too; what a named folder may be."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from defences import small_images
from nets import digits

from deepdefense import attacks, data, evaluate, training
from deepdefense.storage import files, paths
from replication import profiles


def test_data_sets_and_runs_have_a_place_each(monkeypatch, tmp_path):
    monkeypatch.delenv("DEEPDEFENSE_DATA", raising=False)
    assert paths.data_root() == paths.root() / "data" and paths.runs_root() == paths.root() / "data" / "runs"
    monkeypatch.setenv("DEEPDEFENSE_DATA", str(tmp_path / "sets"))
    assert paths.data_root() == tmp_path / "sets" and paths.runs_root() == tmp_path / "sets" / "runs"
    monkeypatch.setenv("DEEPDEFENSE_RUNS", "~/runs")
    assert paths.data_root() == tmp_path / "sets" and paths.runs_root() == Path.home() / "runs"
    monkeypatch.setenv("DEEPDEFENSE_RUNS", "elsewhere/runs")
    monkeypatch.chdir(tmp_path)
    assert paths.runs_root() == paths.root() / "elsewhere" / "runs", "the same for jobs, which run in other folders"
    monkeypatch.setenv("DEEPDEFENSE_RUNS", "")
    assert paths.runs_root() == tmp_path / "sets" / "runs"


@pytest.fixture
def read_only(tmp_path, monkeypatch):
    """A data folder with a small Fashion-MNIST where no folder can be made, as on a file system mounted read-only."""
    folder = tmp_path / "sets"
    folder.mkdir()
    x, y = np.zeros((20, 28, 28), np.uint8), np.arange(20, dtype=np.uint8) % 10
    np.savez(folder / "fashion_mnist.npz", x_train=x, y_train=y, x_test=x[:6], y_test=y[:6])
    mkdir = os.mkdir

    def refuses(path, *arguments, **options):
        if folder in Path(path).parents:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        mkdir(path, *arguments, **options)

    monkeypatch.setattr("os.mkdir", refuses)
    return folder


RUN = replace(profiles.make("smoke", "standard"), epochs=1, width=0.25, val_size=20, val_steps=1)


def test_a_read_only_data_folder_is_read_and_runs_go_elsewhere_or_one_sentence_says_where(read_only, monkeypatch, tmp_path):
    monkeypatch.setitem(data.SPECS, "fashion_mnist", replace(data.SPECS["fashion_mnist"], validation=4))
    monkeypatch.setenv("DEEPDEFENSE_DATA", str(read_only))
    assert len(data.load("fashion_mnist").train) == 16
    with pytest.raises(files.ResultsError, match=r"could not write .*Read-only file system.* Runs go to \$DEEPDEFENSE_RUNS") as error:
        training.fit(RUN, folder=paths.runs_root() / "a", dataset=digits(), progress=False)
    assert str(read_only / "runs" / "a") in str(error.value) and "\n" not in str(error.value)
    monkeypatch.setenv("DEEPDEFENSE_RUNS", str(tmp_path / "runs"))
    training.fit(RUN, folder=paths.runs_root() / "a", dataset=digits(), progress=False)
    assert (tmp_path / "runs" / "a" / "run.json").is_file()
    assert os.listdir(read_only) == ["fashion_mnist.npz"]


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "Free some space and give the same command again: it goes on where it stopped"),
        (errno.EDQUOT, "Free some space"),
        (errno.EROFS, "Runs go to $DEEPDEFENSE_RUNS and data sets to $DEEPDEFENSE_DATA"),
        (errno.EIO, "an earlier file there is unchanged"),
    ],
)
def test_what_cannot_be_written_is_one_sentence_with_the_way_out(number, advice, tmp_path, monkeypatch):
    def fails(_descriptor):
        raise OSError(number, os.strerror(number))

    files.write_json(tmp_path / "run.json", {"old": 1})
    monkeypatch.setattr("os.fsync", fails)
    with pytest.raises(files.ResultsError) as error:
        files.write_json(tmp_path / "run.json", {"new": 1})
    assert os.strerror(number) in str(error.value) and advice in str(error.value) and str(tmp_path / "run.json") in str(error.value)
    assert files.read_json(tmp_path / "run.json") == {"old": 1} and os.listdir(tmp_path) == ["run.json"]


@pytest.mark.parametrize("content", ['{"a": 1', "", "[1]", "{} {}", "\x00"])
def test_a_damaged_record_is_one_sentence_with_the_way_out(content, tmp_path):
    (tmp_path / "run.json").write_text(content)
    for read in (files.read_json, lambda path: training.load_model(path.parent)):
        with pytest.raises(files.ResultsError, match="could not read .*run.json: it .*; restore it, or delete it to have it made"):
            read(tmp_path / "run.json")


def test_a_truncated_record_is_made_again_from_its_checkpoint_once_it_is_deleted(tmp_path):
    first = training.fit(RUN, folder=tmp_path, dataset=digits(), progress=False).record
    path = tmp_path / "run.json"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(files.ResultsError, match="delete it to have it made again"):
        training.fit(RUN, folder=tmp_path, dataset=digits(), progress=False)
    path.unlink()
    again = training.fit(RUN, folder=tmp_path, dataset=digits(), progress=False).record
    assert again["checkpoints"] == first["checkpoints"] and again["history"] == first["history"]


def test_a_folder_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    model, x, y = small_images(4)
    evaluate(model, x, y, eps=0.1, suites={"own": {"FGSM": attacks.fgsm}}, folder="~/kept", progress=False)
    training.fit(RUN, folder="~/run", dataset=digits(), progress=False)
    assert sorted(os.listdir(tmp_path)) == ["kept", "run"]
    assert (tmp_path / "kept" / "report.json").is_file() and (tmp_path / "kept" / "pieces").is_dir()
    assert files.read_json("~/run/run.json")["kind"] == "training"


def test_what_is_no_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    model, x, y = small_images(4)
    for folder, said in ((2025, "got 2025"), ("", "got ''"), (tmp_path / "file", "file is a file"), (b"a", "got b'a'")):
        with pytest.raises(ValueError, match=f"folder must be the path of a folder; .*{said}"):
            evaluate(model, x, y, eps=0.1, suites={"own": {"FGSM": attacks.fgsm}}, folder=folder, progress=False)
        with pytest.raises(ValueError, match=f"folder must be the path of a folder; .*{said}"):
            training.fit(RUN, folder=folder, dataset=digits(), progress=False)
    assert paths.given(None) is None and paths.given(tmp_path) == tmp_path and paths.given(str(tmp_path)) == tmp_path
