"""A training killed with SIGKILL and started again ends as if never stopped. Run as a program, this file does the killing."""

import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from nets import Normalised, digits, seeded

from deepdefense import training
from deepdefense.training import TrainConfig
from deepdefense.training.step import TrainingStep

pytestmark = pytest.mark.slow

SMALL = dict(model="mlp", width=0.03, epochs=3, batch_size=40, lr=0.02, val_size=20, val_steps=2, val_eps=0.1)
CASES = {
    "adam, gfa-deep": dict(objective="gfa-deep", lam=0.2, warmup=0.7),
    "sgd, pgd-at, crop": dict(
        model="cnn", objective="pgd-at", optimizer="sgd", augment="crop", options=dict(eps=0.1, alpha=0.05, attack_steps=2)
    ),
    "adam, gfa-deep in a closed loop, averaged": dict(objective="gfa-deep", options=dict(target=0.3), ema=0.9),
    "adam, gnr": dict(model="cnn", objective="gnr", lam=0.05),
    "adam, batch normalisation and dropout": dict(lr=0.01),
    "sgd, batch normalisation and dropout, averaged": dict(optimizer="sgd", ema=0.7),
}


@functools.cache
def dataset():
    return digits(train=160, val=40, test=40)


def fit(case, folder):
    config = TrainConfig(**{**SMALL, **CASES[case]})
    model = seeded(lambda: Normalised(dropout=0.3)).float() if "dropout" in case else None
    return training.fit(config, folder=folder, dataset=dataset(), model=model, device="cpu", progress=False)


def kill_at_step(step):
    """Patch the training step, so that call number `step` is the last thing that the process does."""
    inner, calls = TrainingStep.__call__, iter(range(10**9))

    def patched(*arguments):
        if next(calls) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return inner(*arguments)

    TrainingStep.__call__ = patched


def kill_at_write(number):
    """Patch what puts files in place, so that the process dies just before call `number` of them."""
    calls = iter(range(10**9))

    def wrap(function):
        def patched(*arguments, **options):
            if next(calls) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return patched

    for name in ("fsync", "replace", "unlink"):
        setattr(os, name, wrap(getattr(os, name)))


def in_a_fork(work, delay=None):
    """Do `work` in a process of its own, killed after `delay` seconds; True if it was killed."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    if delay is not None:
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert killed or status == 0, "training failed by itself"
    return killed


def outcome(folder):
    """What must be equal: the bytes of the weights (by their sums), the history but for its times, and the files."""
    record = json.loads((folder / "run.json").read_text())
    history = [{k: v for k, v in row.items() if "seconds" not in k} for row in record["history"]]
    return {"checkpoints": record["checkpoints"], "history": history, "files": sorted(p.name for p in folder.iterdir())}


def finished(case, folder):
    """The outcome after starting again and not killing any more."""
    in_a_fork(lambda: fit(case, folder))
    found = outcome(folder)
    shutil.rmtree(folder)
    return found


def killed_in_all_ways(case, root, moments, writes):
    """{way: outcome} for `case`: uninterrupted, killed within an epoch, before each of the first `writes`, at random."""
    whole, cut = root / "whole", root / "cut"
    start = time.monotonic()
    in_a_fork(lambda: fit(case, whole))
    duration = time.monotonic() - start
    found = {"whole": outcome(whole)}
    kills = sum([in_a_fork(lambda: (kill_at_step(5), fit(case, cut))) for _ in range(2)])
    found["within an epoch"] = {"kills": kills, **finished(case, cut)}
    for number in range(writes):
        kills = in_a_fork(lambda number=number: (kill_at_write(number), fit(case, cut)))
        found[f"at write {number}"] = {"kills": int(kills), **finished(case, cut)}
    kills = 0
    while kills < 3:
        if in_a_fork(lambda: fit(case, cut), delay=moments.uniform(0.05, 0.9) * duration):
            kills += 1
        else:  # too late, it had ended: again, and sooner
            shutil.rmtree(cut)
            duration /= 2
    found["at random moments"] = {"kills": kills, **finished(case, cut)}
    shutil.rmtree(whole)
    return found


def main(root):
    dataset()
    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.zeros(1)
    torch.optim.AdamW([weight]).step()  # loads what takes seconds to load, once for all forks
    moments = random.Random(0)
    writes = {next(iter(CASES)): 26}
    print(json.dumps({case: killed_in_all_ways(case, root, moments, writes.get(case, 0)) for case in CASES}))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    command = [sys.executable, __file__, str(tmp_path_factory.mktemp("resume"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize("moment", ["within an epoch", "at random moments"])
def test_killed_and_started_again_is_as_if_never_stopped(outcomes, case, moment):
    whole, cut = outcomes[case]["whole"], dict(outcomes[case][moment])
    assert len(whole["history"]) == 3 and whole["checkpoints"]["last"]["sha256"]
    assert cut.pop("kills") >= 1, "nothing was killed"
    assert cut == whole


def test_a_kill_at_any_write_loses_nothing(outcomes):
    found = outcomes[next(iter(CASES))]
    cuts = {name: dict(cut) for name, cut in found.items() if name.startswith("at write")}
    assert sum(cut.pop("kills") for cut in cuts.values()) >= 20
    assert [name for name, cut in cuts.items() if cut != found["whole"]] == []


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
