"""Defences by name: from a file, a module, torchvision, timm, or a file of weights with a constructor; and images for them."""

from .defence import Defence, load

__all__ = ["Defence", "load"]
