"""Seconds and passes per image of each attack, beside the same attack as torchattacks, foolbox and pyautoattack run it.

    python benchmarks/attacks.py                                    # digits, a small CNN trained on the spot
    python benchmarks/attacks.py --data cifar10 --images 84 --repeats 5 --out attacks.json
    python benchmarks/attacks.py --model-run data/runs/NAME --only "DeepFool|EAD"

All contestants take turns within each repeat, on the same images (those that the model gets right), so that a busy
machine slows them all; the ratio is to the first implementation of the same attack in the same turn. A pass is one image
once through the model, forward or backward, counted by hooks on the model's output; one unmeasured turn on four images
comes first, and a short attack runs several times a turn. Attacks of other libraries run as their users would, on the
bare model. A contestant that raises an error has it in its row, and the script ends with status 1 and its name.
"""

import argparse
import inspect
import math
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from common import machine, wait
from torch import Tensor, nn

from deepdefense import attacks, data, models
from deepdefense.attacks.contract import distances
from deepdefense.attacks.libraries import library
from deepdefense.cost import count_passes
from deepdefense.inference import pick_device, predict
from deepdefense.storage import files
from deepdefense.training import load_model

EPS, EPS_L2, QUERIES = 8 / 255, 0.5, 500
LEAST_SECONDS = 0.1  # of a timing: below, the clock and the moment decide
Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Contestant:
    """One implementation of an attack; norm: "linf", "l2" or "l1", the one that its distance is told in."""

    attack: str
    by: str
    norm: str
    run: Attack


def _ours(name: str, **options) -> Attack:
    """An attack of ours; a name or a setting that does not exist is an error here, before anything runs."""
    attack = getattr(attacks, name)
    inspect.signature(attack).bind(None, None, None, **options)
    return lambda model, x, y: attack(model, x, y, **options)


def _torchattacks(name: str, **options) -> Attack:
    def run(model, x, y):
        return getattr(library("torchattacks"), name)(model, **options)(x, y)

    return run


def _foolbox(name: str, eps: float | None = None, **options) -> Attack:
    def run(model, x, y):
        foolbox = library("foolbox")
        attack = getattr(foolbox.attacks, name)(**options)
        seen, criterion = foolbox.PyTorchModel(model, (0, 1), device=x.device), foolbox.criteria.Misclassification(y)
        return attack.run(seen, x, criterion, **({} if eps is None else {"epsilon": eps}))

    return run


def _pyautoattack(module: str, name: str, norm: str = "Linf", eps: float = EPS, **options) -> Attack:
    def run(model, x, y):
        make = getattr(library(f"pyautoattack.{module}"), name)
        return make(model, norm=norm, eps=eps, device=x.device, seed=0, **options).perturb(x, y)

    return run


def contestants(classes: int) -> list[Contestant]:
    """Every attack of ours and its likes elsewhere, with the same number of steps and restarts."""
    wrong = classes - 1
    apgd, apgdt = dict(n_iter=100, n_restarts=1), dict(n_iter=100, n_restarts=1, n_target_classes=wrong)
    fabt = dict(n_restarts=1, n_iter=100, targeted=True, n_target_classes=min(wrong, 9))  # as ours
    square = dict(n_queries=QUERIES, resc_schedule=False)  # not rescaled to the queries, as in AutoAttack
    return [
        Contestant("FGSM", "ours", "linf", _ours("fgsm", eps=EPS)),
        Contestant("FGSM", "torchattacks", "linf", _torchattacks("FGSM", eps=EPS)),
        Contestant("FGSM", "foolbox", "linf", _foolbox("FGSM", eps=EPS)),
        Contestant("PGD-20", "ours", "linf", _ours("pgd", eps=EPS)),
        Contestant("PGD-20", "ours, margin", "linf", _ours("loss_pgd", eps=EPS)),
        Contestant("PGD-20", "torchattacks", "linf", _torchattacks("PGD", eps=EPS, alpha=EPS / 4, steps=20)),
        Contestant("PGD-20", "foolbox", "linf", _foolbox("LinfPGD", eps=EPS, rel_stepsize=0.25, steps=20)),
        Contestant("PGD-40, 2 starts", "ours, free", "linf", _ours("restarted_pgd", eps=EPS)),
        Contestant("PGD-40, 2 starts", "ours, tangential", "linf", _ours("tangential_pgd", eps=EPS)),
        Contestant("APGD-100", "ours", "linf", _ours("apgd", eps=EPS)),
        Contestant("APGD-100", "torchattacks", "linf", _torchattacks("APGD", eps=EPS, steps=100)),
        Contestant("APGD-100", "pyautoattack", "linf", _pyautoattack("autopgd_base", "APGDAttack", **apgd)),
        Contestant("APGDT-100", "ours", "linf", _ours("apgdt", eps=EPS)),
        Contestant("APGDT-100", "torchattacks", "linf", _torchattacks("APGDT", eps=EPS, steps=100, n_classes=classes)),
        Contestant("APGDT-100", "pyautoattack", "linf", _pyautoattack("autopgd_base", "APGDAttack_targeted", **apgdt)),
        Contestant("FAB-T-100", "ours", "linf", _ours("fab_t", eps=EPS)),
        Contestant("FAB-T-100", "pyautoattack", "linf", _pyautoattack("fab_pt", "FABAttack_PT", **fabt)),
        Contestant("FAB-100", "torchattacks", "linf", _torchattacks("FAB", eps=EPS, steps=100, n_classes=classes)),
        Contestant(f"Square-{QUERIES}", "ours", "linf", _ours("square", eps=EPS, queries=QUERIES)),
        Contestant(f"Square-{QUERIES}", "torchattacks", "linf", _torchattacks("Square", eps=EPS, **square)),
        Contestant(f"Square-{QUERIES}", "pyautoattack", "linf", _pyautoattack("square", "SquareAttack", **square)),
        Contestant("PGDL2-20", "ours", "l2", _ours("pgd_l2", eps=EPS_L2)),
        Contestant("PGDL2-20", "torchattacks", "l2", _torchattacks("PGDL2", eps=EPS_L2, alpha=EPS_L2 / 5, steps=20)),
        Contestant("PGDL2-20", "foolbox", "l2", _foolbox("L2PGD", eps=EPS_L2, rel_stepsize=0.2, steps=20)),
        Contestant("DeepFool L2", "ours", "l2", _ours("deepfool_l2")),
        Contestant("DeepFool L2", "torchattacks", "l2", _torchattacks("DeepFool")),
        Contestant("DeepFool L2", "foolbox", "l2", _foolbox("L2DeepFoolAttack")),
        Contestant("DeepFool L∞", "ours", "linf", _ours("deepfool_linf")),
        Contestant("DeepFool L∞", "foolbox", "linf", _foolbox("LinfDeepFoolAttack")),
        Contestant("DDN-100", "ours", "l2", _ours("ddn")),
        Contestant("DDN-100", "ours, scaled", "l2", _ours("ddn", gap=10.0)),
        Contestant("DDN-100", "foolbox", "l2", _foolbox("DDNAttack")),
        Contestant("L2 margin", "ours", "l2", _ours("l2_margin")),
        Contestant("FMN-100 L∞", "ours", "linf", _ours("fmn_linf")),
        Contestant("FMN-100 L∞", "foolbox", "linf", _foolbox("LInfFMNAttack")),
        Contestant("EADEN 9×100", "ours", "l1", _ours("ead")),
        Contestant("EADEN 9×100", "torchattacks", "l1", _torchattacks("EADEN")),
        Contestant("EADEN 9×100", "foolbox", "l1", _foolbox("EADAttack", steps=100, regularization=1e-3)),
    ]


def turn(contestant: Contestant, model: nn.Module, x: Tensor, y: Tensor, seed: int) -> dict:
    """One measured run: milliseconds and passes per image, share of successes, median distance (None for ∞)."""
    torch.manual_seed(seed)
    with count_passes(model) as passes:
        wait(x.device)
        start = time.perf_counter()
        x_adv = contestant.run(model, x.clone(), y).detach()
        wait(x.device)
        seconds = time.perf_counter() - start
        times = 1
    while seconds < LEAST_SECONDS:  # what is short runs again, and longer the second time
        times = max(2, math.ceil(1.2 * LEAST_SECONDS * times / max(seconds, 1e-6)))
        start = time.perf_counter()
        for _ in range(times):
            contestant.run(model, x.clone(), y)
        wait(x.device)
        seconds = time.perf_counter() - start
    model.eval()
    model.zero_grad()
    success = predict(model, x_adv) != y
    distance = torch.where(success, distances(x, x_adv, contestant.norm), torch.inf)
    median = attacks.summary(distance).to_dict()["median"]
    n = len(x)
    return {
        "ms": 1e3 * seconds / times / n,
        "forward": passes.forward / n,
        "backward": passes.backward / n,
        "success": success.float().mean().item(),
        "distance": median,
    }


def measure(rows: Sequence[Contestant], model: nn.Module, x: Tensor, y: Tensor, repeats: int) -> list[dict]:
    """Every contestant `repeats` times, taking turns; one that raises an error is out, and the error is its result.

    "ratio": milliseconds divided by those of the first row of the same attack, turn by turn, the median
    """
    turns: dict[int, list[dict]] = {i: [] for i in range(len(rows))}
    errors: dict[int, str] = {}
    for repeat in range(-1, repeats):
        for i, contestant in enumerate(rows):
            if i in errors:
                continue
            part = slice(0, 4) if repeat < 0 else slice(None)
            try:
                measured = turn(contestant, model, x[part], y[part], max(repeat, 0))
            except Exception as error:  # a crash of another library is a finding, not the end
                errors[i] = f"{type(error).__name__}: {error}".splitlines()[0]
                continue
            if repeat >= 0:
                turns[i].append(measured)
            now = f"turn {repeat + 1} of {repeats}: {contestant.attack} ({contestant.by})"
            print("\r" + now.ljust(78), end="", file=sys.stderr)
    print("\r".ljust(79), end="\r", file=sys.stderr)
    table = []
    for i, contestant in enumerate(rows):
        row = {"attack": contestant.attack, "by": contestant.by, "norm": contestant.norm}
        if i in errors:
            table.append(row | {"error": errors[i]})
            continue
        times = [measured["ms"] for measured in turns[i]]
        last = {key: value for key, value in turns[i][-1].items() if key != "ms"}
        first = next(k for k, other in enumerate(rows) if other.attack == contestant.attack and k not in errors)
        ratio = statistics.median(measured["ms"] / base["ms"] for measured, base in zip(turns[i], turns[first], strict=True))
        table.append(row | {"ms": statistics.median(times), "ms_min": min(times), "ms_max": max(times), "ratio": ratio} | last)
    return table


def small_cnn(name: str, device: torch.device) -> nn.Module:
    """A CNN at half width, trained for a moment: enough to have boundaries worth attacking."""
    dataset = data.load(name)
    model = models.build("cnn", dataset.in_shape, dataset.train.y.max().item() + 1, width=0.5, seed=0).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    train, generator = dataset.train[:10_000].to(device), torch.Generator().manual_seed(0)
    for _ in range(max(1, 60_000 // len(train))):
        for x, y in data.batches(train, 64, generator=generator):
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def show(table: Sequence[dict], where: dict) -> None:
    """The table as text, after the machine."""
    print("  ".join(f"{key} {where[key]}" for key in ("cpu", "cores", "threads", "device", "load", "date")))
    print("  ".join(f"{package} {number}" for package, number in where["packages"].items()), end="\n\n")
    titles = f"{'ms/image':>9}{'min–max':>18}{'ratio':>7}{'forward':>9}{'backward':>10}{'success':>9}  median distance"
    print(f"{'attack':<18}{'by':<18}{titles}")
    for row in table:
        head = f"{row['attack']:<18}{row['by']:<18}"
        if "error" in row:
            print(f"{head}{row['error']}")
            continue
        spread = f"{row['ms_min']:.2f}–{row['ms_max']:.2f}"
        far = "∞" if row["distance"] is None else f"{row['distance']:.4f}"
        passes = f"{row['forward']:>9.1f}{row['backward']:>10.1f}"
        print(f"{head}{row['ms']:>9.2f}{spread:>18}{row['ratio']:>7.2f}{passes}{row['success']:>9.1%}  {far} {row['norm']}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits", choices=sorted(data.SPECS), help="whose images (default: digits)")
    parser.add_argument("--images", type=int, default=84, help="how many, all predicted right (default: 84)")
    parser.add_argument("--model-run", type=Path, help="folder of a trained run (default: a small CNN, trained now)")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each contestant (default: 3)")
    parser.add_argument("--only", default="", help="regular expression: only attacks whose name it matches")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: 1)")
    parser.add_argument("--out", type=Path, help="write the table and the machine as JSON here")
    options = parser.parse_args(arguments)
    if options.images < 1 or options.repeats < 1 or options.threads < 1:
        parser.error("--images, --repeats and --threads must be 1 or more")
    torch.set_num_threads(options.threads)
    device = pick_device(options.device)
    model = load_model(options.model_run, device=device) if options.model_run else small_cnn(options.data, device)
    model.eval()
    test = data.load(options.data).test[: 4 * options.images + 100].to(device)
    x, y = test.images(), test.y
    right = (predict(model, x) == y).nonzero().squeeze(1)[: options.images]
    if len(right) == 0:
        parser.error(f"the model gets none of {len(y)} test images right")
    rows = [row for row in contestants(model(x[:1]).shape[1]) if re.search(options.only, row.attack)]
    if not rows:
        parser.error(f"no attack's name matches {options.only!r}")
    where = machine(device)
    table = measure(rows, model, x[right], y[right], options.repeats)
    show(table, where)
    if options.out:
        settings = {"data": options.data, "images": len(right), "repeats": options.repeats}
        settings["model"] = options.model_run.name if options.model_run else "cnn, half width, trained for this"
        record = {"kind": "benchmark", "name": "attacks", "settings": settings, "environment": where, "attacks": table}
        files.write_json(options.out, record)
    failed = [f"{row['attack']} ({row['by']}): {row['error']}" for row in table if "error" in row]
    if failed:
        print(f"{len(failed)} of {len(table)} contestants failed: {'; '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
