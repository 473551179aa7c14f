"""The command `deepdefense`: `evaluate` a defence, list the `suites`."""

import argparse
import sys
import traceback
from collections.abc import Sequence

from .. import __version__
from ..arguments import check_choice
from ..attacks.contract import AttackError
from ..data import DataError
from ..evaluation.threat import BALL_NORMS
from ..storage.files import ResultsError
from . import listing, options, run

OK, FAILED, BAD_ARGUMENTS, STOPPED = 0, 1, 2, 130


def parser() -> argparse.ArgumentParser:
    """The command line with its help."""
    raw = argparse.RawDescriptionHelpFormatter
    about = "Test a defence against adversarial examples: the per-image worst case over many attacks, in one report."
    top = argparse.ArgumentParser("deepdefense", description=about, epilog=options.EXIT, formatter_class=raw)
    top.add_argument("--version", action="version", version=f"deepdefense {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    evaluation = commands.add_parser(
        "evaluate", help="attack a model and write the report", formatter_class=raw, epilog=f"{options.EXAMPLES}\n{options.EXIT}",
        description="Every attack of the suites on every image that the model gets right. Images are in [0, 1] and eps is in their units; "
        "scaling lives\ninside the model, which is run in eval mode. The same from Python: deepdefense.evaluate(model, x, y, eps=8/255).",
    )  # fmt: skip
    options.add(evaluation)
    suites = commands.add_parser("suites", help="list the suites and their attacks")
    suites.add_argument("--norm", metavar="NORM", default="linf", help="linf (default) or l2")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 0, 1, 2 or 130 (see `deepdefense evaluate --help`)."""
    try:
        given = parser().parse_args(arguments)
    except SystemExit as ended:  # argparse has printed help, the version, or what is missing
        return int(ended.code or 0)
    try:
        if given.command == "suites":
            check_choice("--norm", given.norm, BALL_NORMS)
            print(listing.suites(given.norm))
            return OK
        asked = options.checked(given)
    except ValueError as error:
        return _refused(error)
    return _evaluate(asked)


def _refused(error: Exception) -> int:
    print(f"deepdefense: {' '.join(str(error).split())}", file=sys.stderr)  # in one line, whatever a library's message has
    return BAD_ARGUMENTS


def _evaluate(asked: options.Options) -> int:
    try:
        prepared = run.prepare(asked)
    except (ValueError, DataError, ResultsError) as error:
        return _refused(error)
    except KeyboardInterrupt:
        return _stopped(asked)
    except Exception as error:  # of the defence's own code, which its author wants to see in full
        traceback.print_exc()
        return _refused(ValueError(f"{asked.defence} failed with {type(error).__name__}: {error}"))
    print(run.beginning(prepared), file=sys.stderr)
    try:
        report, found = run.run(prepared)
    except KeyboardInterrupt:
        return _stopped(asked)
    except (AttackError, ResultsError, ValueError) as error:
        notes = getattr(error, "__notes__", [])  # what ran meanwhile; without them no attack had begun
        if isinstance(error, ValueError) and not notes:
            return _refused(error)
        print(f"deepdefense: the run failed: {'; '.join([str(error), *notes])}", file=sys.stderr)
        return FAILED
    print(run.result(report, found))
    print(run.spent(report), file=sys.stderr)
    for path in (asked.html, asked.json):
        if path is not None:
            print(f"wrote {path}", file=sys.stderr)
    return OK


def _stopped(asked: options.Options) -> int:
    on = "the same command starts anew" if asked.folder is None else f"the same command goes on from {asked.folder}"
    print(f"\ndeepdefense: stopped; {on}", file=sys.stderr)
    return STOPPED


if __name__ == "__main__":
    sys.exit(main())
