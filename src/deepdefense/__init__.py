"""DeepDefense, replicated: gradient-feature alignment (GFA), adversarial attacks and how to measure a defence.

Images are in [0, 1] at every public boundary; scaling lives inside the models. `eps` is always in those units (8/255).

>>> from deepdefense import attacks, data, evaluate, gfa, masking, models, training
"""

from importlib.metadata import PackageNotFoundError, version

from .evaluation.protocol import evaluate
from .evaluation.report import Report

__all__ = ["Report", "evaluate"]
try:
    __version__ = version("deepdefense")
except PackageNotFoundError:  # a bare checkout on sys.path
    __version__ = "0+unknown"
