"""The networks that a page shows: trained, or read from the folder in which an earlier training left them."""

from collections.abc import Sequence

from deepdefense.data import Dataset
from deepdefense.storage import files, paths
from deepdefense.training.config import TrainConfig
from deepdefense.training.loop import fit
from deepdefense.training.runs import Run, load_run

from .. import profiles
from ..records import check_run


def kept(run: TrainConfig, dataset: Dataset | None = None, *, progress: bool = True) -> Run:
    """The run `run`, in its folder of data/runs: trained there, taken up again, or read where it is finished."""
    return fit(run, folder=paths.runs_root() / run.name(), dataset=dataset, progress=progress)


def settings(profile: str, seed: int, *, run: str | None = None, defences: Sequence[str] = profiles.SHOWN) -> list[TrainConfig]:
    """What `shown` trains or reads: the runs of `profile`, one a defence; or the finished run called `run` alone."""
    if run is not None:
        return [TrainConfig(**files.read_json(check_run(run) / "run.json")["config"])]
    return [profiles.make(profile, defence, seed=seed) for defence in defences]


def shown(profile: str, seed: int, dataset: Dataset, *, run: str | None = None, defences: Sequence[str] = profiles.SHOWN) -> list[Run]:
    """The networks of `profile` on `dataset`, one a defence; or the finished run called `run` alone."""
    if run is not None:
        return [load_run(check_run(run))]
    return [kept(one, dataset) for one in settings(profile, seed, defences=defences)]
