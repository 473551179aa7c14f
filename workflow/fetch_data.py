"""Have a data set there, downloaded and checked if need be, and write what it holds: python workflow/fetch_data.py NAME FILE"""

import sys

from deepdefense import data
from deepdefense.storage import files

if __name__ == "__main__":
    name, target = sys.argv[1:]
    dataset = data.load(name)
    counts = {part: len(getattr(dataset, part)) for part in ("train", "val", "test")}
    files.write_json(target, {"name": name, "fingerprint": dataset.fingerprint()} | counts)
