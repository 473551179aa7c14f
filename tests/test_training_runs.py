"""Weights alone: the same network comes back, in a file no larger than they are."""

import pytest
import torch
from nets import digits

from deepdefense import training
from deepdefense.training import TrainConfig, runs


def test_the_network_comes_back(tmp_path):
    config = TrainConfig(model="mlp", width=0.05, epochs=1, batch_size=50, val_size=30, val_steps=2, scaling="standard")
    run = training.fit(config, dataset=digits(), folder=tmp_path / "run", device="cpu", progress=False)
    path = runs.export(tmp_path / "run", tmp_path / "kept.safetensors")
    net = runs.load(run.record, path)
    x = digits().test.images()
    assert torch.equal(net(x), run.last(x)) and not net.training
    assert path.stat().st_size < 4 * run.record["parameters"] + 1500
    with pytest.raises(ValueError, match="which must be 'last' or 'best'"):
        runs.export(tmp_path / "run", tmp_path / "other", which="first")
    assert not (tmp_path / "other").exists()
