"""How far a whole evaluation is, and how long it will still take at most: passes through the model against those planned."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from tqdm import tqdm

SECONDS = 2  # between two lines


@contextmanager
def whole_run(model: nn.Module, planned: int, *, show: bool = True) -> Iterator[None]:
    """A bar on stderr over all the passes that `model` makes within, of at most `planned`.

    It ends early where attacks need fewer: broken images are left in peace by some, and what a folder holds needs none.
    """
    with tqdm(
        total=planned,
        desc="whole run, at most",
        unit="pass",
        unit_scale=True,
        mininterval=SECONDS,
        disable=not show,
        leave=False,
        position=0,
    ) as bar:

        def passed(_module: nn.Module, _inputs: tuple, output) -> None:
            bar.update(min(len(output), bar.total - bar.n) if hasattr(output, "__len__") else 0)

        handle = model.register_forward_hook(passed)
        try:
            yield
        finally:
            handle.remove()
