"""The page of a record: what was run, what came of it, and the command that makes it again."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from deepdefense.masking.check import Check

from ..scope import DEFENCE_NAMES, NORM_NAMES, PAIR_NAMES
from ..wording import NOTHING, number, weight
from . import commands
from .curves import chart
from .html import anchor, command, duration, facts, page, percent, section, table, value
from .records import Record

FILES = "records"  # folder of the site with the copies of the records

Row = Mapping[str, object]


def defence(config: Mapping) -> str:
    return DEFENCE_NAMES.get(config["objective"], config["objective"])


def pair(config: Mapping) -> str:
    return PAIR_NAMES.get((config["data"], config["model"]), f"{config['model']}, {config['data']}")


def summary(record: Mapping) -> str:
    """A training run in a line."""
    config = record["config"]
    said = [pair(config), " ".join(filter(None, (defence(config), weight(config)))), f"seed {config['seed']}"]
    said += [f"{record['data']['train']:,} training images", f"{len(record['history'])} of {config['epochs']} epochs"]
    return f"<p><strong>{escape(record['status'])}</strong>: {escape(', '.join(said))}.</p>"


def _column(history: Sequence[Row], name: str) -> list:
    return [row.get(name) for row in history]


def curves(history: Sequence[Row]) -> str:
    """Losses, accuracies, alignment and λ over epochs, of what the history holds."""
    if not history:
        return ""
    drawings = {
        "Accuracy on validation images": {"clean": "val_accuracy", "robust, margin PGD": "val_robust_accuracy"},
        "Loss on training images": {"all": "train_loss", "task alone": "train_task"},
        "Mean alignment at the input": {
            "training": "train_alignment",
            "validation": "val_alignment",
            "training images, no augmentation": "train_subset_alignment",
        },
        "λ": {"λ": "lam", "alignment aimed at": "goal"},
    }
    shown = [chart(title, {label: _column(history, name) for label, name in lines.items()}) for title, lines in drawings.items()]
    return f'<div class="charts">{"".join(shown)}</div>'


def metrics(record: Mapping) -> str:
    """Accuracy and alignment on the test images, for each set of weights that was kept."""
    found = record.get("metrics") or {}
    taps = list(dict.fromkeys(tap for one in found.values() for tap in one.get("test_alignment") or {}))
    rows = [("accuracy", *(percent(one.get("test_accuracy")) for one in found.values()))]
    for tap in taps:
        values = [(one.get("test_alignment") or {}).get(tap) for one in found.values()]
        rows.append((f"alignment at <code>{escape(tap)}</code>", *(NOTHING if v is None else number(v, 3, sign=True) for v in values)))
    if not found:
        return ""
    return table(
        ("test images", *(f"{name} weights" for name in found)), rows, "Metrics on test images: last epoch, and best by validation"
    )


def attacks(report: Mapping) -> str:
    """One report: clean, worst case, suites, then attack by attack."""
    weights = f", {report['weights']} weights" if "weights" in report else ""
    ball = f"{NORM_NAMES[report['norm']]} within {report['eps']:.4g}, {report['n']} test images{weights}"
    rows = []
    for name, one in {"clean": report["clean"], "worst case of all": report["worst_case"]}.items():
        rows.append((f"<strong>{name}</strong>", _share(one), NOTHING, NOTHING, NOTHING))
    rows += [(f"suite {escape(name)}", _share(one), NOTHING, NOTHING, NOTHING) for name, one in report["suites"].items()]
    for name, one in report["attacks"].items():
        tried = f"{one['succeeded']} of {one['attacked']}"
        far = (one["distance"] or {}).get("median")
        rows.append((escape(name), _share(one), tried, NOTHING if far is None else f"{far:.3g}", duration(one["seconds"])))
    head = ("attack", "robust accuracy [95 %]", "broken, of those tried", "median distance", "time")
    said = "".join(f"<p>Warning of {escape(one['part'])}, {one['times']} ×: {escape(one['message'])}</p>" for one in report["warnings"])
    return f"<h3>{escape(ball)}</h3>{table(head, rows, f'Attacks: {ball}')}{said}"


def _share(one: Mapping | None) -> str:
    return NOTHING if not one else percent(one["accuracy"], one["low"], one["high"])


def sweep(measured: Mapping) -> str:
    """Accuracy over eps, attack by attack."""
    found = measured["sweep"]["accuracy"]
    attacks = list(dict.fromkeys(key.rpartition("/")[0] for key in found))
    levels = list(dict.fromkeys(key.rpartition("/")[2] for key in found))
    rows = [(escape(attack), *(percent(found.get(f"{attack}/{level}")) for level in levels)) for attack in attacks]
    return table(("attack", *(f"{level}/255" for level in levels)), rows, f"Accuracy within ε (L∞), first {measured['n']} test images")


def masking(report: Mapping) -> str:
    """The nine checks; those from before power was recorded are judged as on the page of the chapter."""
    checks = [Check.from_record(one, report.get("attacked")) for one in report["checks"]]
    rows = [(str(one.number), *map(escape, (one.title, "passed in part" if one.in_part else one.verdict, one.reason))) for one in checks]
    caption = f"Are the gradients masked? Nine checks on {report['images']} test images within {report['eps']:.4g}"
    return table(("check", "what", "found", "why"), rows, caption)


def made(environment: Mapping) -> list[tuple[str, str]]:
    """When, where and with what, as rows of a table."""
    packages = environment.get("packages", {})
    rest = {name: one for name, one in environment.items() if name != "packages"}
    return [(escape(name), value(one)) for name, one in rest.items()] + [(escape(name), value(one)) for name, one in packages.items()]


def address(record: Record, path: Path) -> str:
    """Where the copy of a file of `record` lies on the site, from a page of a run or their list."""
    return f"../{FILES}/{quote(path.relative_to(record.root).as_posix())}"


def ways(record: Record, sections: Iterable[str]) -> str:
    """What a reader of a long page looks for: the record itself, its network, its files, the command, of those that the page has."""
    links = [f'<a href="{address(record, record.file)}">the record (JSON)</a>']
    for title, name in {"Its network": "its network", "Files": "all files", "Make it again": "make it again"}.items():
        if any(f'id="{anchor(title)}"' in one for one in sections):
            links.append(f'<a href="#{anchor(title)}">{name}</a>')
    return f"<p>{' · '.join(links)}</p>"


def downloads(record: Record) -> str:
    """Every file of a record, with its size."""
    lines = []
    for path in record.files:
        size = max(1, round(path.stat().st_size / 1000))
        inside = escape(str(path.relative_to(record.root)))
        lines.append(f'<li><a href="{address(record, path)}" download>{inside}</a> ({size:,} kB)</li>')
    return f'<ul class="files">{"".join(lines)}</ul>'


def network(record: Record) -> str:
    """The published weights, and how they become a model; nothing where none are published."""
    if record.weights is None:
        return ""
    file = f'<a href="{address(record, record.weights)}" download>{escape(record.weights.name)}</a>'
    said = f"<p>Its weights are published: {file}. From a clone, as a model of images in [0, 1], with its record and report:</p>"
    return said + command(f"from replication import networks\nnetworks.load({record.name!r}).model")


def again(lines: Iterable[tuple[str, str | None]]) -> str:
    """Commands with what they do; those that are None left out."""
    return "".join(f"<p>{escape(what)}:</p>{command(text)}" for what, text in lines if text)


def training_page(record: Record) -> str:
    """The page of a training run."""
    content, config = record.content, record.content["config"]
    reports, measured, checks = (record.parts(kind) for kind in ("attacks", "measures", "masking"))
    todo = [("Train it", commands.training(config))]
    todo += [(f"Attack it ({NORM_NAMES[one['norm']]})", commands.attacks(record.name, one)) for one in reports]
    todo += [("Measure it", commands.measures(record.name, one)) for one in measured]
    todo += [("Check whether its gradients are masked", commands.masking(record.name, one)) for one in checks]
    todo += [(f"Make all that is missing of its grid, {record.group}", commands.whole_folder(record.group))]
    flat = {**{k: v for k, v in config.items() if k != "options"}, **{f"options: {k}": v for k, v in config["options"].items()}}
    spent = [("training, with validation", duration(content["wall_time_s"])), ("parameters", value(content.get("parameters")))]
    spent += [(f"cost: {name.replace('_', ' ')}", value(one)) for name, one in (content.get("cost") or {}).items()]
    sections = [
        section("What came of it", metrics(content)),
        section("Its history", curves(content["history"])),
        section("Under attack", *map(attacks, reports), *map(sweep, measured)),
        section("Masking report", *map(masking, checks)),
        section("Its network", network(record)),
        section("Files", downloads(record)),
        section("Make it again", again(todo)),
        section("Configuration", facts(((escape(name), value(one)) for name, one in flat.items()), "Configuration")),
        section("Where it was made", facts([*spent, *made(content["environment"])], "Environment and cost")),
    ]
    return page(record.name, "\n".join(filter(None, [summary(content), ways(record, sections), *sections])))


def other_page(record: Record) -> str:
    """The page of a record of any other kind: its parts as they are."""
    content = record.content
    body = [section("Files", downloads(record))]
    todo = commands.benchmark(content) if content.get("kind") == "benchmark" else commands.whole_folder(record.group)
    body.append(section("Make it again", again([("With its default settings", todo)])))
    body += [
        section("Under attack", *map(attacks, record.parts("attacks"))),
        section("Masking report", *map(masking, record.parts("masking"))),
    ]
    for name, one in content.items():
        if name in ("environment", "kind", "name") or content.get("kind") in ("attacks", "masking"):
            continue
        body.append(section(name, _any(name, one)))
    body.append(section("Where it was made", facts(made(content.get("environment", {})), "Environment")))
    return page(record.name, "\n".join(filter(None, [ways(record, body), *body])))


def _any(name: str, one) -> str:
    """A table of whatever this is: a list of alike dicts has a row for each of them."""
    if isinstance(one, list) and one and all(isinstance(row, dict) for row in one):
        head = list(dict.fromkeys(key for row in one for key in row))
        return table(head, ([value(row.get(key)) for key in head] for row in one), name, first=False)
    if isinstance(one, dict):
        return facts(((escape(str(key)), value(inner)) for key, inner in one.items()), name)
    return f"<p>{value(one)}</p>"


def of(record: Record) -> str:
    """The whole page of a record, HTML."""
    return training_page(record) if record.content.get("kind") == "training" else other_page(record)
