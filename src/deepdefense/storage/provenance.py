"""Where a result comes from: commit, versions, device, time."""

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from . import paths

ATTACK_PACKAGES = ("torchattacks", "pyautoattack", "foolbox")
PACKAGES = ("torch", "torchvision", *ATTACK_PACKAGES, "numpy", "scikit-learn", "safetensors", "pyarrow")


RESULTS = "data/results"  # below a checkout; what finished runs left, which is not what the next ones are made with


def commit(root: Path | None = None) -> str | None:
    """Commit of the checkout `root`, with "-dirty" if tracked files but for its results differ from it; None where there is none.

    root: the checkout of this project by default, and None outside one
    """
    if root is None and not (paths.root() / "_config.yml").is_file():
        return None
    git = ["git", "-C", str(root or paths.root())]
    try:
        name = _said([*git, "describe", "--always", "--abbrev=12", "--exclude=*"])
        changed = _said([*git, "status", "--porcelain", "--untracked-files=no", "--", ":(top)", f":(top,exclude){RESULTS}"])
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{name}-dirty" if name and changed else name or None


def _said(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def environment(device: str | torch.device = "cpu") -> dict:
    """Versions, device, threads, commit and time of now: what is needed to judge and repeat a run."""
    device = torch.device(device)
    return {
        "commit": commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "python": platform.python_version(),
        "packages": {package: _installed(package) for package in PACKAGES} | {"torch": torch.__version__},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} ({platform.machine()})",
        "threads": torch.get_num_threads(),
    }
