"""Checkpoints: what goes in comes out bit for bit, and damage is found before anything is done with it."""

import json

import pytest
import torch
from nets import Normalised, images
from torch import nn

from deepdefense.storage import checkpoint
from deepdefense.storage.checkpoint import CheckpointError

OPTIMIZERS = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "adamw amsgrad": lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "sgd momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, centered=True, momentum=0.5),
}


def trained(make, steps=3, model=None, optimizer=None):
    """A model and its optimizer after some steps on fixed images."""
    torch.manual_seed(0)
    model = model or Normalised(classes=3)
    optimizer = optimizer or make(model.parameters())
    x, y = images(8)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model, optimizer


def save(folder, model, optimizer, epoch=1, **more):
    tensors, scalars = checkpoint.pack(model, optimizer)
    return checkpoint.write_state(folder, {"scalars": scalars, **more}, tensors, epoch)


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=list(OPTIMIZERS))
@pytest.mark.parametrize("steps", [0, 3])
def test_a_restored_state_goes_on_as_if_never_stopped(tmp_path, make, steps):
    model, optimizer = trained(make, steps)
    save(tmp_path, model, optimizer)
    torch.manual_seed(1)
    twin = Normalised(classes=3)
    twin_optimizer = make(twin.parameters())
    state = checkpoint.read_state(tmp_path)
    checkpoint.unpack(checkpoint.load_tensors(tmp_path, state["last"]), state["scalars"], twin, twin_optimizer)
    for a, b in zip(model.state_dict().values(), twin.state_dict().values(), strict=True):
        assert torch.equal(a, b) and a.dtype == b.dtype
    trained(make, 4, model, optimizer)
    trained(make, 4, twin, twin_optimizer)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), twin.state_dict().values(), strict=True))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.head = nn.Linear(36, 36), nn.Linear(36, 36), nn.Linear(36, 3)
        self.two.weight = self.one.weight

    def forward(self, x):
        return self.head(torch.relu(self.two(torch.relu(self.one(x.flatten(1))))))


def test_shared_weights_can_be_saved(tmp_path):
    model, optimizer = trained(OPTIMIZERS["adamw"], model=Tied())
    save(tmp_path, model, optimizer)
    twin = Tied()
    state = checkpoint.read_state(tmp_path)
    tensors = checkpoint.load_tensors(tmp_path, state["last"])
    checkpoint.unpack(tensors, state["scalars"], twin, OPTIMIZERS["adamw"](twin.parameters()))
    assert torch.equal(twin.two.weight, model.one.weight) and twin.two.weight is twin.one.weight


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool])
@pytest.mark.parametrize("values", [[1.0, -0.0, 1e-45, 7e37], [], [[1, 2], [3, 4]], 5])
def test_tensors_round_trip_bit_for_bit(tmp_path, values, dtype):
    tensor = torch.tensor(values, dtype=torch.float64).clamp(max=2**40).to(dtype)
    slanted = torch.arange(6).view(2, 3).t()
    entry = checkpoint.save_tensors(tmp_path, "a", {"t": tensor, "slanted": slanted})
    back = checkpoint.load_tensors(tmp_path, entry)
    assert back["t"].dtype == dtype and back["t"].shape == tensor.shape and torch.equal(back["t"], tensor)
    assert torch.equal(torch.signbit(back["t"]), torch.signbit(tensor)) and torch.equal(back["slanted"], slanted)


def test_only_the_files_that_the_state_names_stay(tmp_path):
    model, optimizer = trained(OPTIMIZERS["sgd"])
    best = {"epoch": 1, **checkpoint.save_tensors(tmp_path, "best-0001", {"a": torch.ones(2)})}
    for epoch in (1, 2, 3):
        save(tmp_path, model, optimizer, epoch, best=best)
    (tmp_path / ".last-0004.safetensors.x.partial").write_bytes(b"a kill while writing")
    (tmp_path / "notes.txt").write_text("the reader's own")
    save(tmp_path, model, optimizer, 5, best=best)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["best-0001.safetensors", "last-0005.safetensors", "notes.txt", "state.json"]


def damaged(content, index):
    return content[:index] + bytes([content[index] ^ 1]) + content[index + 1 :]


def test_a_flipped_bit_in_the_tensors_is_found_and_nothing_is_deleted(tmp_path):
    entry = save(tmp_path, *trained(OPTIMIZERS["adamw"]))["last"]
    path = tmp_path / entry["file"]
    whole = path.read_bytes()
    for content in [damaged(whole, i) for i in range(0, len(whole), 997)] + [whole[:-1], b"", whole + b"x"]:
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=f"{path.name} is damaged") as error:
            checkpoint.load_tensors(tmp_path, entry)
        assert "Restore it, or delete its folder" in str(error.value) and path.read_bytes() == content
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name, "state.json"]


def test_a_flipped_bit_in_the_state_is_found_and_nothing_is_deleted(tmp_path):
    state = save(tmp_path, *trained(OPTIMIZERS["sgd"]), history=[{"epoch": 1, "loss": 0.5}])
    path = tmp_path / "state.json"
    whole, unnoticed = path.read_bytes(), 0
    others = [whole[:-5], b"", b"[]", b"3", b"null", b"{}", b"\xff\xfe"]
    for content in [damaged(whole, i) for i in range(len(whole))] + others:
        path.write_bytes(content)
        try:
            assert checkpoint.read_state(tmp_path) == state, "accepted, so it must say the same"
            unnoticed += 1
        except CheckpointError as error:
            assert str(path) in str(error) and "is damaged" in str(error)
        assert path.read_bytes() == content and (tmp_path / state["last"]["file"]).exists()
    assert unnoticed < len(whole) / 4, "only blanks between the tokens may go unnoticed"


def test_missing_files(tmp_path):
    assert checkpoint.read_state(tmp_path) is None and checkpoint.read_state(tmp_path / "nowhere") is None
    entry = save(tmp_path, *trained(OPTIMIZERS["sgd"]))["last"]
    (tmp_path / entry["file"]).unlink()
    with pytest.raises(CheckpointError, match=f"{entry['file']} cannot be read: No such file"):
        checkpoint.load_tensors(tmp_path, checkpoint.read_state(tmp_path)["last"])


def test_no_pickle_and_readable_json(tmp_path):
    save(tmp_path, *trained(OPTIMIZERS["adamw"]), config={"lam": 0.1, "shape": (1, 2)})
    state = json.loads((tmp_path / "state.json").read_text())
    assert state["config"] == {"lam": 0.1, "shape": [1, 2]} and checkpoint.read_state(tmp_path)["config"] == state["config"]
    for path in tmp_path.glob("*.safetensors"):
        assert json.loads(path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")])
