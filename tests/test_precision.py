"""Less exact arithmetic only where it is asked for, and everything as before afterwards."""

from dataclasses import replace

import pytest
import torch
from nets import digits, images

from deepdefense import models, training
from deepdefense.geometry import alignment
from deepdefense.gfa import gfa_terms
from deepdefense.losses import LOSSES
from deepdefense.training import TrainConfig, precision

SMALL = TrainConfig(model="cnn", width=0.2, epochs=2, batch_size=50, lr=5e-3, val_size=30, val_steps=2, val_eps=0.1)
SWITCHES = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)


def switches():
    return [switch.fp32_precision for switch in SWITCHES]


@pytest.mark.parametrize(("name", "inside"), [("float32", "ieee"), ("tf32", "tf32"), ("bf16", "ieee")])
def test_the_switches_are_set_and_put_back(name, inside):
    before = switches()
    with pytest.raises(KeyError), precision.arithmetic(name):
        assert switches() == [inside, inside]
        raise KeyError
    assert switches() == before


@pytest.mark.parametrize(("name", "words"), [("tf32", ["tf32", "CUDA", "cpu", "bf16"]), ("half", ["float32, tf32, bf16", "'half'"])])
def test_what_a_cpu_does_not_have_is_refused_before_training(name, words):
    with pytest.raises(ValueError) as error:
        precision.check(name, torch.device("cpu"))
    assert all(word in str(error.value) for word in words)
    if name == "tf32":
        with pytest.raises(ValueError, match="needs a CUDA GPU"):
            training.fit(replace(SMALL, precision="tf32"), dataset=digits(), device="cpu", progress=False)


@pytest.mark.parametrize("objective", ["standard", "gfa-first", "gfa-deep", "pgd-at", "gnr", "trades"])
def test_bf16_trains_every_objective_and_its_weights_stay_float32(objective):
    run = replace(SMALL, objective=objective, lam=0.1 if objective[:2] in ("gf", "gn") else 0.0)
    exact, coarse = (training.fit(replace(run, precision=p), dataset=digits(), device="cpu", progress=False) for p in ("float32", "bf16"))
    assert all(p.dtype == torch.float32 for p in coarse.last.parameters())
    rows = [one.record["history"][-1] for one in (exact, coarse)]
    assert rows[0]["train_loss"] != rows[1]["train_loss"], "bf16 must have been used"
    assert rows[1]["train_loss"] == pytest.approx(rows[0]["train_loss"], rel=0.05)
    assert coarse.record["config"]["precision"] == "bf16" and coarse.name != exact.name


def test_losses_and_alignments_are_float32_under_bf16():
    net, (x, y) = models.build("cnn", (1, 8, 8), 3, width=0.2, seed=0), images(8, (1, 8, 8))
    exact = gfa_terms(net, x, y, lam=0.5, layers="deep")
    with precision.autocast("bf16", x.device):
        coarse = gfa_terms(net, x, y, lam=0.5, layers="deep")
    assert coarse.logits.dtype == torch.bfloat16
    assert coarse.loss.dtype == torch.float32 and all(a.dtype == torch.float32 for a in coarse.alignments.values())
    for a, b in zip(exact.alignments.values(), coarse.alignments.values(), strict=True):
        assert (a - b).abs().max() < 0.05 and not torch.equal(a, b)
    assert LOSSES["mse"](coarse.logits, y).dtype == torch.float32
    assert LOSSES["mse"](coarse.logits.double(), y).dtype == torch.float64


def test_autocast_does_not_reach_into_the_alignment():
    h, g = (torch.randn(3, 4000, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    with precision.autocast("bf16", h.device):
        assert torch.equal(alignment(h, g), alignment(h, g)) and alignment(h, g).dtype == torch.float32
        inside = alignment(h, g)
    assert torch.equal(inside, alignment(h, g))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU: only there are products rounded to TF32")
def test_on_a_gpu_float32_is_float32_and_tf32_is_not():
    a, b = (torch.randn(512, 512, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    exact, error = a.double() @ b.double(), {}
    for name in ("float32", "tf32"):
        with precision.arithmetic(name):
            error[name] = ((a.cuda() @ b.cuda()).cpu() - exact).abs().max() / exact.abs().max()
    assert error["float32"] < 1e-5 < error["tf32"]
