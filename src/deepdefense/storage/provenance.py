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


def commit(root: Path | None = None) -> str | None:
    """Commit of the checkout `root`, with "-dirty" if tracked files differ from it; None where there is none.

    root: the checkout of this project by default, and None outside one
    """
    if root is None and not (paths.root() / "_config.yml").is_file():
        return None
    command = ["git", "-C", str(root or paths.root()), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return None


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
