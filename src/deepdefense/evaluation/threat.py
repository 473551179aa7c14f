"""What an attack may do and how chance is dealt to it: the four numbers that fix a result, whatever the model and the attack."""

from dataclasses import dataclass

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
        """Itself; a ValueError names what no evaluation can work with."""
        if self.norm not in BALL_NORMS:
            raise ValueError(f"norm must be one of {', '.join(BALL_NORMS)}; got {self.norm!r}")
        if not (self.eps > 0 and (self.norm == "l2" or self.eps <= 1)):
            raise ValueError(f"eps must be above 0, in units of the image range (8/255), and for linf at most 1; got {self.eps}")
        if type(self.chunk) is not int or self.chunk < 1:
            raise ValueError(f"chunk must be a whole number of at least 1; got {self.chunk!r}")
        if type(self.seed) is not int or not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must be a whole number from 0 to 2^31 - 1; got {self.seed!r}")
        return self

    def seed_of(self, number: int) -> int:
        """The seed of chunk `number`."""
        return batch_seed(self.seed, number)
