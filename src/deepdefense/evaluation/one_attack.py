"""One attack on images, chunk by chunk: each chunk a piece that is kept as soon as it is done.

No attack is taken at its word: success is the model's answer to the image it returned, and that image's distance.
"""

import hashlib
import re
import time
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from .. import inference
from ..arguments import check_logits_type
from ..attacks.contract import Attack, check_output, distances, returned, rounding, takes_eps
from ..attacks.neighbours import on_rows, reads_layers, treats_alone
from ..cost import count_passes
from ..inference import frozen, seeded
from ..losses import margin
from ..storage import code_files
from ..storage.identity import function_fingerprint
from ..storage.resumable import Pieces, fingerprint
from .attack_words import describe
from .report import Outcome
from .sliced_model import Sliced
from .threat import BALL_NORMS, Threat

NO_COST = {"images": 0, "seconds": 0.0, "forward": 0, "backward": 0}


def logits_in_chunks(model: nn.Module, x: Tensor, chunk: int, seed: int) -> Tensor:
    """The model's logits (N, K), so many images at a time, in evaluation mode and with chance as `seed` deals it."""
    with frozen(model), seeded(x.device, seed, model), torch.no_grad():
        found = []
        for part in x.split(chunk):
            found.append(model(part))
            check_logits_type(found[-1], len(part))
    return torch.cat(found)


def _attack_chunk(model: nn.Module, attack: Attack, name: str, x: Tensor, y: Tensor, rows: Tensor, threat: Threat, number: int):
    """One attack on images `rows` of chunk `number`, as a piece: the model's answers to what came back, and the distances."""
    eps, norm, seed = threat.eps, threat.norm, threat.seed_of(number)
    bounded = takes_eps(attack)
    options = {"seed": seed, **({"eps": eps} if bounded else {})}
    seen, parts = model, [rows]
    if isinstance(model, Sliced) and reads_layers(attack):  # layers are not to be read in slices, but such an attack can be cut
        seen, parts = model.model, rows.split(model.size)
    found, start = [], time.perf_counter()
    with frozen(seen), torch.enable_grad(), count_passes(seen) as counted:
        for part in parts:
            with seeded(x.device, seed, seen):
                x_adv = on_rows(attack, seen, x, y.clone(), part, **options)
            found.append(returned(x[part], x_adv, name))
    seconds = time.perf_counter() - start
    x, y = x[rows], y[rows]
    x_adv = check_output(x, torch.cat(found), eps if bounded else torch.inf, name, norm)
    logits = logits_in_chunks(model, x_adv, len(x), seed)
    prediction = inference.answers(logits)
    wrong, undefined = prediction != y, prediction < 0  # no answer is no right answer
    far = {n: distances(x, x_adv, n).masked_fill(~wrong, torch.inf) for n in BALL_NORMS}
    tensors = {
        "success": wrong if bounded else wrong & (far[norm] <= eps + rounding(x, eps, norm)),  # a bounded one is proven to be in the ball
        "prediction": prediction,
        **far,
        "loss": margin(logits, y).masked_fill(undefined, torch.inf),
    }
    cost = {"images": len(y), "seconds": seconds, "forward": counted.forward, "backward": counted.backward}
    return tensors, {"cost": cost, "undefined": int(undefined.sum())}


def _code(attack: Attack) -> str:
    """What changes when the code of `attack` does, or that of what judges it: pieces of other code are not taken up."""
    judging = {Path(__file__), *code_files.files_of("deepdefense.models", "deepdefense.losses", "deepdefense.attacks.contract")}
    return code_files.fingerprint(judging.union(code_files.files_of_function(attack)))


def _place(name: str, attack: Attack, settings: str) -> str:
    """Where the pieces of `attack` are kept: no other name, setting, code or thing that it holds has the same place."""
    cause = f"{name}\n{settings} {_code(attack)} {function_fingerprint(attack)}"
    return f"{re.sub(r'[^A-Za-z0-9./-]+', '-', name)[:80]}-{hashlib.sha256(cause.encode()).hexdigest()[:8]}"


def run_attack(
    model: nn.Module,
    attack: Attack,
    x: Tensor,
    y: Tensor,
    attacked: Tensor,
    threat: Threat,
    *,
    standing: Tensor | None = None,
    name: str = "attack",
    pieces: Pieces | None = None,
    bar: tqdm | None = None,
) -> tuple[Outcome, int]:
    """`attack` on the images where `attacked` (N,) is True; and for how many the model's answer was NaN.

    standing: (N,) bool, those whose outcome is wanted, all by default. What the attack does to them does not depend on it:
    an attack that heeds an image's neighbours is given its whole chunk, if one of it stands
    """
    pieces = pieces or Pieces(None, {})
    standing = attacked if standing is None else attacked & standing
    settings, alone = describe(attack), treats_alone(attack, threat.norm)
    where = _place(name, attack, settings)
    empty = {"success": False, "prediction": -1, "linf": torch.nan, "l2": torch.nan, "loss": torch.nan}
    kinds = {"success": torch.bool, "prediction": torch.int64}
    here = torch.device("cpu")  # whatever the default device
    arrays = {key: torch.full((len(y),), value, dtype=kinds.get(key, torch.float64), device=here) for key, value in empty.items()}
    cost, undefined = dict(NO_COST), 0
    for number, part in enumerate(attacked.nonzero().flatten().split(threat.chunk)):
        left = standing[part]
        if left.any():
            rows = left.nonzero().flatten() if alone else torch.arange(len(part), device=part.device)
            images = fingerprint(part) if len(rows) == len(part) else fingerprint(part, rows)
            job = partial(_attack_chunk, model, attack, name, x[part], y[part], rows, threat, number)
            try:
                tensors, facts = pieces.get(f"{where}/{number:05d}-{images[:8]}", job)  # never laid on other images
            except Exception as error:
                error.add_note(f"while running {name} on images {int(part[0])} to {int(part[-1])}")
                raise
            wanted, reached = left[rows].cpu(), part[left].cpu()
            for key, array in arrays.items():
                array[reached] = tensors[key][wanted].to(array.dtype)
            cost = {key: cost[key] + facts["cost"][key] for key in cost}
            undefined += facts["undefined"]
        if bar is not None:
            bar.update(len(part))
    numbers = {key: array.numpy() for key, array in arrays.items()}
    return Outcome.of(standing.cpu().numpy(), numbers, cost=cost, settings=settings, bounded=takes_eps(attack)), undefined
