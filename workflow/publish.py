"""Copy files of finished runs into data/results, each whole or not at all.

    python workflow/publish.py [--clean-tree] FILE [FILE ...] --to FILE [FILE ...]

--clean-tree: refuse a record that was made with changes that no commit has; the sentence names it.
"""

import argparse
import sys
from pathlib import Path

from deepdefense.storage import files

DIRTY = "-dirty"


def unclean(record) -> list[str]:
    """The commits in a record, wherever they stand in it, that are of a tree with local changes."""
    if isinstance(record, dict):
        own = [record["commit"]] if str(record.get("commit")).endswith(DIRTY) else []
        return own + [commit for part in record.values() for commit in unclean(part)]
    return [commit for part in record for commit in unclean(part)] if isinstance(record, list) else []


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--to", nargs="+", type=Path, required=True)
    parser.add_argument("--clean-tree", action="store_true")
    options = parser.parse_args(arguments)
    if len(options.files) != len(options.to):
        parser.error(f"as many files must be given as places to copy them to; got {len(options.files)} and {len(options.to)}")
    for path in options.files if options.clean_tree else ():
        found = unclean(files.read_json(path)) if path.suffix == ".json" else []
        if found:
            print(f"{path} was made with changes that are not committed ({found[0]}); delete its folder and make it again", file=sys.stderr)
            return 1
    for source, target in zip(options.files, options.to, strict=True):
        files.write_bytes(target, source.read_bytes())
    return 0


if __name__ == "__main__":
    sys.exit(main())
