"""A report as one HTML file: no script is needed to read it, and no request leaves it."""

from .page import page, record

__all__ = ["page", "record"]
