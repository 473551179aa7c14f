"""Multi-targeted PGD: one ascent towards each wrong class, which finds mistakes that the nearest class hides."""

import torch
from torch import Tensor, nn

from ..arguments import check_whole
from ..inference import frozen
from ..losses import targeted_margin
from .contract import check_inputs, check_output
from .linf_ascent import climb, loss_score, shrinking, uniform_start, worst_of


def multi_targeted_pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float = 8 / 255,
    steps: int = 50,
    targets: int | None = 9,
    restarts: int = 1,
    seed: int = 0,
) -> Tensor:
    """L∞ PGD on logit_t − logit_y for each target class t, `restarts` times; the worst per image (Gowal et al. 2019).

    targets: how many wrong classes, those of the largest logits on the clean image first: nine, as in AutoAttack's
    APGD-T, or all K − 1 where there are fewer; None takes all, which of 1,000 classes is 999 ascents a restart
    Step sizes shrink from eps/2 to eps/50. An image that is fooled is not attacked again.
    """
    x, y = check_inputs(model, x, y, eps)
    check_whole(steps=steps, restarts=restarts, **({} if targets is None else {"targets": targets}))
    if len(x) == 0:
        return x.clone()
    generator = torch.Generator(x.device).manual_seed(seed)

    def attempt(rank: int, start: Tensor):
        def run(index: Tensor) -> Tensor:
            target = order[index, rank]
            score = loss_score(model, y[index], lambda logits, labels: targeted_margin(logits, labels, target))
            return climb(score, x[index], eps=eps, sizes=shrinking(eps, steps), start=start[index]).best

        return run

    with frozen(model):
        with torch.no_grad():
            logits = model(x)
        order = logits.scatter(1, y[:, None], -torch.inf).argsort(1, descending=True)[:, :-1]
        count = min(targets or order.shape[1], order.shape[1])
        starts = [uniform_start(x, eps, generator) for _ in range(restarts)]
        attempts = [attempt(rank, start) for start in starts for rank in range(count)]
        x_adv = worst_of(model, x, y, attempts)
    return check_output(x, x_adv, eps, "multi-targeted PGD")
