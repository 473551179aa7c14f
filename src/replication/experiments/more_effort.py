"""More effort than any report spends, on the images that a report calls robust: does it break some of them?

    python -m replication.experiments.more_effort NAME ... [--restarts 5] [--targets 9] [--steps 100]     of published networks

One JSON record a network, data/results/more_effort/NAME.json; a network whose record is there is not tried again. What counts as broken
is said by `break_networks.check_batch`, as for everybody who sends in a batch (`book/15_break_our_networks.ipynb`).
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn

from deepdefense import data
from deepdefense.attacks.linf_ascent import climb, loss_score, per_image, shrinking, sign_step, uniform_start, worst_of
from deepdefense.evaluation.report import Report
from deepdefense.inference import frozen
from deepdefense.losses import targeted_margin
from deepdefense.storage import files, paths, provenance

from .. import networks
from .break_networks import check_batch

KIND = "more_effort"  # of the records, and their folder
CHUNK = 250  # images at a time


@dataclass(frozen=True)
class Effort:
    """On each image: `steps` steps with momentum `decay` towards each of `targets` wrong classes, from `restarts` random starts each."""

    restarts: int = 5
    targets: int = 9
    steps: int = 100
    decay: float = 0.8
    seed: int = 1001


class Momentum:
    """A step along the sign of a decaying sum of the gradients met, each divided by its mean magnitude (Dong et al. 2018)."""

    def __init__(self, decay: float):
        self.decay, self.sum = decay, torch.zeros(())

    def __call__(self, x_adv: Tensor, gradient: Tensor, low: Tensor, high: Tensor, size: float) -> Tensor:
        length = gradient.abs().flatten(1).mean(1).clamp_min(torch.finfo(gradient.dtype).tiny)
        self.sum = self.decay * self.sum + gradient / per_image(length, gradient)
        return sign_step(x_adv, self.sum, low, high, size)


def targeted_momentum(model: nn.Module, x: Tensor, y: Tensor, eps: float, effort: Effort) -> Tensor:
    """Ascents of logit_t − logit_y with momentum under L∞, towards the wrong classes t of the largest logits first; the worst an image.

    No suite has it: images (B, C, H, W) in [0, 1] within eps of x, for a model in eval mode.
    """
    generator = torch.Generator().manual_seed(effort.seed)

    def attempt(rank: int, start: Tensor):
        def run(index: Tensor) -> Tensor:
            target = order[index, rank]
            score = loss_score(model, y[index], lambda logits, labels: targeted_margin(logits, labels, target))
            sizes, move = shrinking(eps, effort.steps), Momentum(effort.decay)
            return climb(score, x[index], eps=eps, sizes=sizes, start=start[index], move=move).best

        return run

    with frozen(model):
        with torch.no_grad():
            order = model(x).scatter(1, y[:, None], -torch.inf).argsort(1, descending=True)[:, :-1]
        starts = [uniform_start(x, eps, generator) for _ in range(effort.restarts)]
        return worst_of(model, x, y, [attempt(rank, start) for start in starts for rank in range(min(effort.targets, order.shape[1]))])


def try_harder(model: nn.Module, report: Report, x: Tensor, y: Tensor, effort: Effort) -> dict:
    """{"eps", "n", "survivors", "broken"}: how many images the report calls robust, and the indices of those that fall now.

    x, y: the first test images (N, C, H, W) in [0, 1] and their labels (N,), as many as the report has, which is one under L∞
    """
    about, survivors = report.about, torch.from_numpy(report.robust().nonzero()[0])
    if about["norm"] != "linf":
        raise ValueError(f"report must be one under linf; got {about['norm']}")
    broken: tuple[int, ...] = ()
    if len(survivors):
        parts = [targeted_momentum(model, x[part], y[part], about["eps"], effort) for part in survivors.split(CHUNK)]
        with TemporaryDirectory() as folder:
            batch = Path(folder) / "batch.npz"
            np.savez(batch, indices=survivors.numpy(), images=torch.cat(parts).numpy())
            broken = check_batch(model, report, batch, x, y).broken
    return {"eps": about["eps"], "n": len(y), "survivors": len(survivors), "broken": list(broken)}


def main(arguments: Sequence[str] | None = None) -> list[Path]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", metavar="NAME", help="of published networks; the beginning will do where one alone has it")
    for name, usual in asdict(Effort()).items():
        parser.add_argument(f"--{name}", type=type(usual), default=usual, help="default: %(default)s")
    options = parser.parse_args(arguments)
    effort = Effort(**{name: getattr(options, name) for name in asdict(Effort())})
    try:
        chosen = [networks.load(name) for name in options.names]
    except ValueError as error:
        parser.error(str(error))
    for one in chosen:
        if one.report is None:
            parser.error(f"{one.record['name']} must have a report under L∞, which lists its survivors; it has none")
    written = []
    for one in chosen:
        target = paths.results_root() / KIND / f"{one.record['name']}.json"
        if target.is_file():
            print(f"{target.stem}: its record is there")
            continue
        test, start = data.load(one.record["config"]["data"]).test[: len(one.report.label)], time.monotonic()
        found = try_harder(one.model, one.report, test.images(), test.y, effort)
        made = {"kind": KIND, "name": target.stem, "effort": asdict(effort), "seconds": round(time.monotonic() - start)}
        written.append(files.write_json(target, made | found | {"environment": provenance.environment("cpu")}))
        print(f"{target.stem}: {len(found['broken'])} of {found['survivors']} survivors are broken, {made['seconds']} s", flush=True)
    return written


if __name__ == "__main__":
    main()
