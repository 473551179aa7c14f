"""torchvision's archives: found in the folder, fetched, checked; made here and served by this machine."""

import gzip
import hashlib
import io
import os
import pickle
import shutil
import struct
import tarfile
import threading
from dataclasses import replace
from functools import partial
from http.client import IncompleteRead
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from torchvision import datasets

from deepdefense import data

PARTS = {"train": 10, "test": 4}


def labels(part):
    return np.arange(PARTS[part], dtype=np.uint8)


def pixels(part, shape):
    return np.random.default_rng(PARTS[part]).integers(0, 256, (PARTS[part], *shape), dtype=np.uint8)


def md5(content):
    return hashlib.md5(content).hexdigest()


def cifar10(server, address, monkeypatch):
    """cifar-10-python.tar.gz, as torchvision unpacks it: pickled dictionaries, images flat and channels first."""
    files = {}
    for part, names in (("train", ["data_batch_1", "data_batch_2"]), ("test", ["test_batch"])):
        flat = pixels(part, (32, 32, 3)).transpose(0, 3, 1, 2).reshape(PARTS[part], -1)
        chunks = zip(names, np.array_split(flat, len(names)), np.array_split(labels(part), len(names)), strict=True)
        files |= {name: pickle.dumps({"data": x, "labels": y.tolist()}) for name, x, y in chunks}
    files["batches.meta"] = pickle.dumps({"label_names": list(data.SPECS["cifar10"].classes)})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    path = server / "cifar-10-python.tar.gz"
    path.write_bytes(buffer.getvalue())
    sums = [[name, md5(content)] for name, content in files.items()]
    made = dict(url=address + path.name, tgz_md5=md5(buffer.getvalue()), train_list=sums[:2], test_list=sums[2:3])
    made["meta"] = {"filename": "batches.meta", "key": "label_names", "md5": sums[3][1]}
    for key, value in made.items():
        monkeypatch.setattr(datasets.CIFAR10, key, value)
    return [path], "", ["cifar-10-batches-py/data_batch_2"]


def fashion_mnist(server, address, monkeypatch):
    """Four gzipped files in the IDX format of MNIST."""
    resources, paths = [], []
    for part, prefix in (("train", "train"), ("test", "t10k")):
        images = struct.pack(">4i", 2051, PARTS[part], 28, 28) + pixels(part, (28, 28)).tobytes()
        numbers = struct.pack(">2i", 2049, PARTS[part]) + labels(part).tobytes()
        for kind, content in (("images-idx3", images), ("labels-idx1", numbers)):
            path = server / f"{prefix}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(content))
            paths.append(path)
            resources.append((path.name, md5(path.read_bytes())))
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [address])
    monkeypatch.setattr(datasets.FashionMNIST, "resources", resources)
    return paths, "FashionMNIST/raw", ["FashionMNIST/raw/train-images-idx3-ubyte", "FashionMNIST/raw/t10k-labels-idx1-ubyte"]


MAKERS = {"cifar10": cifar10, "fashion_mnist": fashion_mnist}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_args):
        pass


@pytest.fixture(params=list(MAKERS))
def served(request, tmp_path, monkeypatch):
    """(name, the files on the server, where they belong in a data folder, some unpacked files, an empty data folder)"""
    name, files, root = request.param, tmp_path / "server", tmp_path / "data"
    files.mkdir()
    root.mkdir()
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setitem(data.SPECS, name, replace(data.SPECS[name], validation=3))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(files))) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield name, *MAKERS[name](files, f"http://127.0.0.1:{server.server_port}/", monkeypatch), root
        server.shutdown()


def assert_right(name, dataset):
    shape = data.SPECS[name].image
    x = dataset.test.x.permute(0, 2, 3, 1).reshape(-1, *shape)
    assert np.array_equal(x.numpy(), pixels("test", shape)) and dataset.test.y.tolist() == labels("test").tolist()
    assert len(dataset.train) == 7 and len(dataset.val) == 3
    together = torch.cat([dataset.train.x, dataset.val.x]).permute(0, 2, 3, 1).flatten(1).tolist()
    assert sorted(together) == sorted(pixels("train", shape).reshape(10, -1).tolist())
    assert sorted(torch.cat([dataset.train.y, dataset.val.y]).tolist()) == labels("train").tolist()


def listing(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_fetched_once_then_read_from_the_folder(served):
    name, files, _, _, root = served
    assert_right(name, data.load(name, root / "new"))
    for path in files:
        path.unlink()
    before = listing(root)
    assert_right(name, data.load(name, root / "new"))
    assert listing(root) == before and not [path for path in before if "download" in path]


def test_an_npz_goes_first(served):
    name, _, _, _, root = served
    arrays = {f"x_{part}": pixels(part, data.SPECS[name].image) for part in PARTS}
    np.savez(root / f"{name}.npz", **arrays, y_train=labels("train"), y_test=1 + labels("test"))
    assert data.load(name, root).test.y.tolist() == [1, 2, 3, 4]
    assert os.listdir(root) == [f"{name}.npz"]


def test_archives_put_there_by_hand_need_no_network(served):
    name, files, place, _, root = served
    (root / place).mkdir(parents=True, exist_ok=True)
    for path in files:
        shutil.move(path, root / place / path.name)
    assert_right(name, data.load(name, root))


@pytest.mark.parametrize("damage", ["gone", "altered", "truncated"])
def test_what_cannot_be_fetched_is_a_clear_error_and_leaves_nothing(served, damage):
    name, files, _, _, root = served
    content = files[-1].read_bytes()
    files[-1].unlink()
    if damage != "gone":
        files[-1].write_bytes(content[:-9] if damage == "truncated" else content[:40] + b"?" + content[41:])
    with pytest.raises(data.DataError) as error:
        data.load(name, root)
    for word in (name, str(root), "could not be downloaded", f"{name}.npz", "x_train, y_train", "DEEPDEFENSE_DATA"):
        assert word in str(error.value)
    assert os.listdir(root) == []


DAMAGES = {
    "truncated": lambda content: content[:-5],
    "flipped last bit": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "flipped head": lambda content: content[:2] + bytes([content[2] ^ 9]) + content[3:],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))
def test_damaged_unpacked_files_are_never_used(served, damage):
    """With the archive at hand the data come right; without it there is an error. Never wrong images, never a traceback."""
    name, files, _, unpacked, root = served

    def unpack_and_damage():
        getattr(datasets, data.SPECS[name].torchvision)(root, download=True)
        for path in unpacked:
            (root / path).write_bytes(damage((root / path).read_bytes()))

    unpack_and_damage()
    assert_right(name, data.load(name, root))
    shutil.rmtree(root)
    unpack_and_damage()
    for path in [*root.rglob("*.gz"), *files]:
        path.unlink()
    before = listing(root)
    with pytest.raises(data.DataError, match="could not be downloaded"):
        data.load(name, root)
    assert listing(root) == before, "what was there is the reader's"


@pytest.mark.parametrize("failure", [TimeoutError("timed out"), ConnectionResetError("reset"), IncompleteRead(b"x", 9)])
def test_a_connection_that_breaks_is_a_clear_error(served, failure, monkeypatch):
    name, _, _, _, root = served

    def breaks(*_args, **_options):
        raise failure

    monkeypatch.setattr("urllib.request.urlopen", breaks)
    with pytest.raises(data.DataError, match="could not be downloaded"):
        data.load(name, root)
    assert os.listdir(root) == []


def test_a_folder_that_cannot_be_written_is_named(served, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(data.DataError, match=r"cannot write to the data folder .*DEEPDEFENSE_DATA"):
        data.load(served[0], blocked / "data")
    assert blocked.read_text() == "not a folder"
