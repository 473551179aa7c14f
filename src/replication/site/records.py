"""The records that have a page, each with the files that belong to it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from deepdefense.storage import files

from ..networks import WEIGHTS
from ..provenance import record_files

OWNER = re.compile(r"^(.*-[0-9a-f]{8})(?:\..*)?$")  # NAME and NAME.report-… both belong to the run NAME


@dataclass(frozen=True)
class Record:
    """One record: its JSON file, and the folders below the results that belong to it."""

    name: str
    file: Path
    folders: tuple[Path, ...]
    root: Path

    @property
    def group(self) -> str:
        """The folder of results that it lies in, as "quick"."""
        return self.file.relative_to(self.root).parts[0]

    @cached_property
    def content(self) -> Mapping:
        return files.read_json(self.file)

    @property
    def weights(self) -> Path | None:
        """The published weights of its network, which lie beside a training record; None if it has none."""
        path = self.file.with_suffix(WEIGHTS)
        return path if path.is_file() else None

    @property
    def files(self) -> list[Path]:
        """All files of it, the record first."""
        alone = self.file.parent.parent == self.root
        beside = [self.weights] if self.weights else []
        first = [self.file, *beside] if alone else sorted(path for path in self.file.parent.iterdir() if path.is_file())
        return first + [path for folder in self.folders for path in sorted(folder.iterdir()) if path.is_file()]

    def parts(self, kind: str) -> list[Mapping]:
        """The contents of its JSON files of one kind: "attacks", "measures", "masking"."""
        read = [files.read_json(path) for path in self.files if path.suffix == ".json"]
        return [content for content in read if content.get("kind") == kind]


def read_all(root: Path) -> list[Record]:
    """Everything below the results `root` that has a page, by folder and name."""
    found = record_files(root)
    owned: dict[str, list[Path]] = {}
    for folder in sorted(path for path in root.glob("*/*") if path.is_dir()):
        owner = OWNER.match(folder.name)
        if owner and owner[1] in found:
            owned.setdefault(owner[1], []).append(folder)
    records = [Record(name, file, tuple(owned.get(name, ())), root) for name, file in found.items()]
    return sorted(records, key=lambda record: (record.group, record.name))
