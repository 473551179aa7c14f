"""What an attack may do and how chance is dealt to it: the four numbers that fix a result, whatever the model and the attack."""

from dataclasses import dataclass, replace

from ..arguments import check_ball, checked_whole
from ..inference import batch_seed

BALL_NORMS = ("linf", "l2")


@dataclass(frozen=True)
class Threat:
    """eps: radius in units of the image range (8/255), in `norm`, "linf" or "l2"
    seed, chunk: `chunk` images are attacked together, each chunk with a seed derived from `seed`
    """

    eps: float
    norm: str = "linf"
    seed: int = 0
    chunk: int = 100

    def check(self) -> "Threat":
        """The same, of Python's own numbers; a ValueError names what no evaluation can work with."""
        check_ball(self.eps, self.norm, BALL_NORMS)
        seed, chunk = checked_whole("seed", self.seed, least=0, most=2**31 - 1), checked_whole("chunk", self.chunk, least=1)
        return replace(self, seed=seed, chunk=chunk)

    def seed_of(self, number: int) -> int:
        """The seed of chunk `number`."""
        return batch_seed(self.seed, number)
