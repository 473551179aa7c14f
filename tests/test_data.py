"""Data sets: what the digits are, npz files whole and damaged, where files are looked for."""

import hashlib
import io
import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from deepdefense import data

SHAPES = {"cifar10": (32, 32, 3), "fashion_mnist": (28, 28)}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Data sets with 4 validation images, and a torchvision that cannot fetch anything."""
    for name in SHAPES:
        monkeypatch.setitem(data.SPECS, name, replace(data.SPECS[name], validation=4))

    def unreachable(*_args, **_options):
        raise OSError("no network in this test")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)


def arrays(name="fashion_mnist", train=20, test=6, shape=None):
    """Arrays of the right kind; `shape` replaces that of one image."""
    draw = np.random.default_rng(0)
    shape = shape or SHAPES[name]
    x = {f"x_{part}": draw.integers(0, 256, (n, *shape), dtype=np.uint8) for part, n in (("train", train), ("test", test))}
    return x | {"y_train": np.arange(train, dtype=np.uint8) % 10, "y_test": np.arange(test, dtype=np.uint8) % 10}


def test_the_digits_are_scikit_learns_split_in_three():
    dataset = data.load("digits")
    parts = (dataset.train, dataset.val, dataset.test)
    assert [len(part) for part in parts] == [1287, 150, 360]
    assert dataset.in_shape == (1, 8, 8) and dataset.classes == tuple("0123456789") and dataset.value_range == (0.0, 1.0)
    assert all(part.x.dtype == torch.uint8 and part.y.dtype == torch.int64 for part in parts)
    from sklearn.datasets import load_digits

    original = load_digits()
    levels = np.rint(original.data * 255 / 16).astype(int)
    wanted = sorted([*pixels, label] for pixels, label in zip(levels.tolist(), original.target.tolist(), strict=True))
    got = [[*image, label] for p in parts for image, label in zip(p.x.flatten(1).tolist(), p.y.tolist(), strict=True)]
    assert sorted(got) == wanted, "each image once, with its label"
    assert all(torch.bincount(part.y, minlength=10).min() >= 5 for part in parts)


def test_the_split_does_not_change_between_versions():
    """Committed results are of these images; another split, from another numpy or torch, would make them incomparable."""
    dataset = data.load("digits")
    digests = [hashlib.sha256(bytes(part.y.tolist())).hexdigest()[:8] for part in (dataset.train, dataset.val, dataset.test)]
    assert digests == ["eedbc7a5", "60aa1eab", "9c2d11a9"]


@pytest.mark.parametrize("name", list(SHAPES))
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_is_read_as_it_is(name, save, tmp_path):
    wanted = arrays(name)
    save(tmp_path / f"{name}.npz", **wanted)
    dataset = data.load(name, tmp_path)
    assert [len(part) for part in (dataset.train, dataset.val, dataset.test)] == [16, 4, 6]
    channels_last = dataset.test.x.permute(0, 2, 3, 1).reshape(wanted["x_test"].shape)
    assert np.array_equal(channels_last.numpy(), wanted["x_test"]) and dataset.test.y.tolist() == [0, 1, 2, 3, 4, 5]
    assert sorted(torch.cat([dataset.train.y, dataset.val.y]).tolist()) == sorted(wanted["y_train"].tolist())
    mean, std = dataset.statistics()
    pixels = dataset.train.images().double()
    assert mean == pytest.approx(pixels.mean((0, 2, 3)).tolist()) and std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist())


def test_the_folder_is_the_argument_else_the_environment_variable(tmp_path, monkeypatch):
    for number, folder in enumerate(("given", "configured")):
        (tmp_path / folder).mkdir()
        np.savez(tmp_path / folder / "fashion_mnist.npz", **arrays(train=20 + number))
    monkeypatch.setenv("DEEPDEFENSE_DATA", str(tmp_path / "configured"))
    assert len(data.load("fashion_mnist").train) == 17
    assert len(data.load("fashion_mnist", tmp_path / "given").train) == 16


def npz_bytes(save, **content):
    buffer = io.BytesIO()
    save(buffer, **content)
    return buffer.getvalue()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_altered_or_truncated_npz_is_a_clear_error(save, tmp_path, monkeypatch):
    """Every byte flipped and every tenth length, on a small file: an error that names it, or the very same arrays."""
    monkeypatch.setitem(data.SPECS, "fashion_mnist", replace(data.SPECS["fashion_mnist"], image=(2, 2), validation=2))
    whole, path = npz_bytes(save, **arrays(shape=(2, 2), train=6, test=3)), tmp_path / "fashion_mnist.npz"
    path.write_bytes(whole)
    right, damaged = data.load("fashion_mnist", tmp_path), 0
    versions = [whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :] for i in range(len(whole))]
    for content in versions + [whole[:length] for length in range(0, len(whole), 10)]:
        path.write_bytes(content)
        try:
            got = data.load("fashion_mnist", tmp_path)
        except data.DataError as error:
            assert str(path) in str(error) and "Delete or replace" in str(error)
            damaged += 1
        else:
            assert all(torch.equal(getattr(got, p).x, getattr(right, p).x) for p in ("train", "val", "test"))
            assert all(torch.equal(getattr(got, p).y, getattr(right, p).y) for p in ("train", "val", "test"))
    assert damaged > len(versions) / 2
    assert os.listdir(tmp_path) == ["fashion_mnist.npz"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(x_train=np.zeros((20, 28, 28))), ["x_train", "uint8", "(N, 28, 28)", "float64"]),
        (dict(x_test=np.zeros((6, 28, 27), np.uint8)), ["x_test", "(6, 28, 27)"]),
        (dict(x_test=np.zeros((0, 28, 28), np.uint8)), ["x_test", "(0, 28, 28)"]),
        (dict(x_train=np.uint8(3)), ["x_train", "()"]),
        (dict(y_train=np.arange(20)), ["y_train", "0 to 9", "19"]),
        (dict(y_train=np.arange(20) - 1), ["y_train", "-1"]),
        (dict(y_train=np.zeros((20, 1), int)), ["y_train", "(20, 1)"]),
        (dict(y_test=np.zeros(5, int)), ["y_test", "6 whole numbers", "(5,)"]),
        (dict(y_test=np.zeros(6)), ["y_test", "float64"]),
        (dict(y_test=np.array(list("abcdef"))), ["y_test", "whole numbers"]),
        (dict(y_test=np.array([None] * 6)), ["cannot be read"]),
        (dict(x_train=np.zeros((4, 28, 28), np.uint8), y_train=np.zeros(4, int)), ["more than 4 training images", "4"]),
    ],
)
def test_wrong_arrays_are_named(change, words, tmp_path):
    np.savez(tmp_path / "fashion_mnist.npz", **(arrays() | change))
    with pytest.raises(data.DataError) as error:
        data.load("fashion_mnist", tmp_path)
    assert all(word in str(error.value) for word in ["fashion_mnist.npz", *words]), error.value


def test_files_that_are_no_npz(tmp_path):
    path = tmp_path / "fashion_mnist.npz"
    np.savez(path, x_train=np.zeros(3))
    with pytest.raises(data.DataError, match="lacks y_train, x_test, y_test"):
        data.load("fashion_mnist", tmp_path)
    single = io.BytesIO()
    np.save(single, np.zeros(3))
    for content in (b"", b"<html>not found</html>", single.getvalue()):
        path.write_bytes(content)
        with pytest.raises(data.DataError, match="cannot be read as npz"):
            data.load("fashion_mnist", tmp_path)
    with pytest.raises(ValueError, match="one of cifar10, fashion_mnist, digits; got 'mnist'"):
        data.load("mnist")
