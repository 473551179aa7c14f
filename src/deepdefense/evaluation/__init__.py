"""A model and images in, a report out; nothing here knows of training."""

from .protocol import evaluate
from .report import Report

__all__ = ["Report", "evaluate"]
