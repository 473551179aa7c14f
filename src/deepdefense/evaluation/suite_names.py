"""Suites as a command line or a notebook's parameter names them."""

from ..arguments import check_choice
from ..attacks.suites import SUITES


def suite_names(text: str | None) -> list[str] | None:
    """The suites named in "a,b,c"; None stays None (all there are); a ValueError names one that does not exist."""
    chosen = text if text is None else [name.strip() for name in str(text).split(",")]
    for name in chosen or []:
        check_choice("suites", name, SUITES)
    return chosen
