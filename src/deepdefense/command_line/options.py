"""The options of `deepdefense evaluate`: how they are written, and one sentence for each that cannot be."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..arguments import check_ball, check_choice, checked_whole, from_text
from ..evaluation.preparation import MODES
from ..evaluation.suite_names import suite_names
from ..evaluation.threat import BALL_NORMS
from ..inference import pick_device
from ..losses import LOSSES
from ..masking import PRESETS

SUBSTITUTE_STEPS = {"quick": 100, "full": 500}

EXIT = """exit status:
  0  the report was made
  1  the run failed on the way: an attack broke its promise, the disk was full, an error in the model's code
  2  an argument, the defence or the images cannot be worked with: nothing was run, and nothing was written
  130  stopped with Ctrl-C; with --folder the same command goes on where it was
"""

EXAMPLES = """the defence:
  my_defence.py:make     a function without arguments in a file (or my_package.module:make in a module) that returns
                           model, x, y          a torch.nn.Module from images in [0, 1] to logits, images (N, C, H, W), labels
                           model, "cifar10"     and a data set whose test images are taken: digits, cifar10, fashion_mnist
                           model                alone: the images are named by --data
  torchvision:resnet18   a network of torchvision, with --weights FILE and the scaling that it was trained with
  timm:NAME              the same of timm, where that is installed

examples:
  a first look, in seconds to minutes:
    deepdefense evaluate my_defence.py:make --eps 8/255 --suites gradient --images 100
  AutoAttack and the adaptive attacks, as one HTML file to show:
    deepdefense evaluate my_defence.py:make --eps 8/255 --suites standard,adaptive --html report.html
  every attack there is and the checks for masked gradients, kept: stopped, the same command goes on where it was:
    deepdefense evaluate my_defence.py:make --eps 8/255 --masking full --folder results/mine --html report.html
  only the robust accuracy, for a fraction of the time:
    deepdefense evaluate my_defence.py:make --eps 8/255 --mode worst_case
  weights of torchvision's ResNet-18, trained on images scaled as ImageNet's are:
    deepdefense evaluate torchvision:resnet18 --weights net.safetensors --data cifar10 --eps 8/255 \\
        --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
  a class of your own, which takes no argument, and its weights:
    deepdefense evaluate my_package.nets:Net --weights net.pt --data my_images.npz --eps 0.5 --norm l2
"""


@dataclass(frozen=True)
class Options:
    """What `deepdefense evaluate` was asked for, checked; see the help of each option in `add`."""

    defence: str
    eps: float
    norm: str
    suites: list[str] | None
    mode: str
    data: str | None
    images: int | None
    weights: str | None
    classes: int | None
    mean: list[float] | None
    std: list[float] | None
    seed: int
    batch_size: int | None
    device: torch.device
    training_loss: str | None
    allow_random: bool
    masking: str | None
    substitute_steps: int
    name: str | None
    reported: float | None
    folder: Path | None
    json: Path | None
    html: Path | None


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments of `deepdefense evaluate`. All come as text and are read by `checked`, so that each fault is one sentence."""
    what = parser.add_argument_group("what is tested")
    what.add_argument("defence", metavar="DEFENCE", help="file.py:callable, package.module:callable, torchvision:NAME or timm:NAME")
    what.add_argument("--data", metavar="NAME", help="digits, cifar10, fashion_mnist, or an .npz file with x in [0, 1] and y")
    what.add_argument("--images", metavar="N", help="the first N images are attacked (default: all)")
    what.add_argument("--weights", metavar="FILE", help="a state dict, .safetensors or of torch.save, put into the model")
    what.add_argument("--classes", metavar="K", help="of torchvision:NAME or timm:NAME (default: as many as the weights have)")
    what.add_argument("--mean", metavar="M,M,M", help="with --std: (x - mean)/std goes before a model that has no scaling inside;")
    what.add_argument("--std", metavar="S,S,S", help="images stay in [0, 1], so that eps means the same for every model")
    how = parser.add_argument_group("how")
    how.add_argument("--eps", metavar="EPS", required=True, help="radius in units of the images: 8/255, 0.03")
    how.add_argument("--norm", metavar="NORM", default="linf", help="linf (default) or l2")
    how.add_argument("--suites", metavar="A,B", help="some of `deepdefense suites` (default: all there are for the norm)")
    how.add_argument("--mode", metavar="MODE", default="full", help="full (default), or worst_case: the robust accuracy alone, cheaper")
    how.add_argument("--training-loss", metavar="LOSS", help="that the model was trained with, for the attacks that use it: mse, ce, …")
    how.add_argument("--seed", metavar="S", default="0", help="of every random draw (default 0)")
    how.add_argument("--batch-size", metavar="B", help="most images in the model at a time (default 100)")
    how.add_argument("--device", metavar="D", default="auto", help="cpu, cuda, cuda:1, or auto (default): a GPU where there is one")
    how.add_argument("--allow-random", action="store_true", help="let a model in whose answers change from pass to pass")
    masked = parser.add_argument_group("are the gradients masked?")
    masked.add_argument("--masking", metavar="HOW", nargs="?", const="quick", help="add nine checks: quick (a first look), or full")
    masked.add_argument("--substitute-steps", metavar="N", help="training steps of the networks to transfer from (quick 100, full 500)")
    kept = parser.add_argument_group("what is written")
    kept.add_argument("--folder", metavar="DIR", help="keep every finished batch and the reports there, and go on from there")
    kept.add_argument("--html", metavar="FILE", help="the report as one file to open in a browser")
    kept.add_argument("--json", metavar="FILE", help="the same as JSON, with RobustBench's fields")
    kept.add_argument("--name", metavar="TEXT", help="of the model in the report (default: DEFENCE)")
    kept.add_argument("--reported", metavar="PERCENT", help="robust accuracy that is claimed for the model, shown beside ours")


def checked(given: argparse.Namespace) -> Options:
    """The options, or a ValueError with a sentence for the first that cannot be worked with. Reads no file."""
    check_choice("--norm", given.norm, BALL_NORMS)
    check_choice("--mode", given.mode, MODES)
    eps = _eps(given.eps, given.norm)
    if given.training_loss is not None:
        check_choice("--training-loss", given.training_loss, LOSSES)
    if given.masking is not None:
        check_choice("--masking", given.masking, PRESETS)
        _check_masking(eps, given.norm, given.mode)
    elif given.substitute_steps is not None:
        raise ValueError("--substitute-steps are for the networks of --masking; give both or neither")
    html, written = _file("--html", given.html), _file("--json", given.json)
    if html is not None and html == written:
        raise ValueError(f"--html and --json must be two files, got {given.html} for both")
    return Options(
        defence=given.defence, eps=eps, norm=given.norm, suites=suite_names(given.suites), mode=given.mode, data=given.data,
        images=_whole("--images", given.images, 1), weights=given.weights, classes=_whole("--classes", given.classes, 2),
        mean=_numbers("--mean", given.mean), std=_numbers("--std", given.std), seed=_whole("--seed", given.seed, 0) or 0,
        batch_size=_whole("--batch-size", given.batch_size, 1), device=_device(given.device), training_loss=given.training_loss,
        allow_random=given.allow_random, masking=given.masking, name=given.name, reported=_percent(given.reported),
        substitute_steps=_whole("--substitute-steps", given.substitute_steps, 1) or SUBSTITUTE_STEPS.get(given.masking, 0),
        folder=None if given.folder is None else Path(given.folder).expanduser(), json=written, html=html,
    )  # fmt: skip


def _number(name: str, text: str, example: str) -> float:
    found = from_text(text)
    if found is None:
        raise ValueError(f"{name} must be a number, such as {example}; got {text!r}")
    return found


def _eps(text: str, norm: str) -> float:
    eps = float(_number("--eps", text, "8/255 or 0.03"))
    if norm == "linf" and eps > 1:
        levels = f"; for {text} grey levels of 255 write {text}/255" if eps <= 255 else ""
        raise ValueError(f"--eps must be at most 1 for linf, since images are in [0, 1]; got {text}{levels}")
    check_ball(eps, norm, BALL_NORMS)
    return eps


def _check_masking(eps: float, norm: str, mode: str) -> None:
    if norm != "linf":
        raise ValueError(f"--masking is for --norm linf; got {norm}")
    if mode != "full":
        raise ValueError(f"--masking needs every attack on every image, --mode full; got {mode}")
    if eps >= 0.5:
        raise ValueError(f"--masking needs --eps below 0.5, since its sweep over radii ends there; got {eps:g}")


def _whole(name: str, text: str | None, least: int) -> int | None:
    return None if text is None else checked_whole(name, _number(name, text, "100"), least=least, most=2**31 - 1)


def _numbers(name: str, text: str | None) -> list[float] | None:
    return None if text is None else [float(_number(name, part, "0.485,0.456,0.406")) for part in text.split(",")]


def _percent(text: str | None) -> float | None:
    if text is None:
        return None
    found = float(_number("--reported", text, "52.1 for 52.1 %"))
    if not 0 <= found <= 100:
        raise ValueError(f"--reported must be a percentage from 0 to 100; got {text}")
    return found


def _file(name: str, text: str | None) -> Path | None:
    """A file that will be written: its folder must be there or can be made, which is tried when it is written at the door."""
    if text is None:
        return None
    path = Path(text).expanduser()
    if text == "" or path.is_dir():
        raise ValueError(f"{name} must be a file to write, got {text!r}" + (", which is a folder" if text else ""))
    return path


def _device(text: str) -> torch.device:
    try:
        device = pick_device(text)
    except RuntimeError as error:
        raise ValueError(f"--device must be auto, cpu, cuda or cuda:N; got {text!r}") from error
    here: Sequence[str] = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    if device.type not in here or (device.index or 0) >= max(1, torch.cuda.device_count() if device.type == "cuda" else 1):
        raise ValueError(f"--device {text} is not there; this machine has {', '.join(here)}")
    return device
