"""Make everything of a profile that is not there yet: data, runs, attacks, pages, the site.

    python workflow/reproduce.py [--profile smoke|quick|paper] [--dry-run] [--cluster slurm] [TARGET ...] [-- SNAKEMAKE OPTIONS]

The work is workflow/Snakefile, in _build/reproduce-PROFILE (with a grid of your own: reproduce-GRID); the committed notebooks
are not touched. Stopped at any moment, the same command goes on where it was. A job that fails does not stop the others; it is
listed at the end, with its reason. TARGET: trained, attacked, measured, results, pages or site (default: all of it), or a file of the
workflow. --cluster names a folder of workflow/profiles: the jobs are then submitted instead of run here. After `--`, any options
of Snakemake.
"""

import argparse
import fcntl
import os
import shutil
import sys
import time
from pathlib import Path

import engine
import job_costs
import plan as plans
import publish
import whole
import yaml
from job_costs import in_words
from progress import Planned, ProgressLine, complain

from deepdefense import data
from deepdefense.storage import code_files, files, provenance
from replication import planned

ROOT = Path(__file__).resolve().parents[1]
LEAST_FREE = 2**20  # bytes; with less, what fails fails for want of space
TARGETS = ("all", "trained", "attacked", "measured", "results", "pages", "site")


class ReproduceError(RuntimeError):
    """Something went wrong; the message is what to show."""


def say(text: str) -> None:
    print(text, flush=True)


def lock(folder: Path):
    """Hold the workflow's folder until the returned file is closed; the kernel lets go of it if this process is killed."""
    with files.writing(folder / ".lock"):
        file = open(folder / ".lock", "a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise ReproduceError(f"another command is at work in {folder}; wait for it, or stop it") from error
    return file


def keep_manifest(plan: plans.Plan) -> None:
    """Say in the folder of results what it is to hold, if that is not what stands there."""
    path, wanted = plan.results / planned.GRID_JSON, plan.manifest()
    if not path.is_file() or files.read_json(path) != wanted:
        files.write_json(path, wanted)


def check_tree(plan: plans.Plan) -> None:
    """A ReproduceError where headline results would be made with changes that no commit has."""
    commit = provenance.commit(code_files.SOURCES.parent)
    if plan.clean_tree and commit and commit.endswith(publish.DIRTY):
        raise ReproduceError(
            f"results of {plan.name} are made from a committed tree alone, and tracked files differ from commit "
            f"{commit.removesuffix(publish.DIRTY)} (`git status` names them); commit them, then give the same command again"
        )


def gpu_options() -> list[str]:
    """What may run on the GPU at the same time: as many jobs as its free memory holds."""
    import torch

    if not torch.cuda.is_available():
        return []
    free, _ = torch.cuda.mem_get_info()
    return ["--resources", f"gpu_mb={int(0.95 * free / 2**20)}"]


def expected(document: dict, jobs: dict) -> dict[str, float]:
    """Seconds that each of `jobs` is expected to take; jobs that only gather or copy others are left out."""

    def seconds(rule: str, wildcards: dict) -> float | None:
        if rule in ("train", "page"):
            return document[f"{rule.replace('train', 'run')}s"][wildcards.get("name", wildcards.get("page"))]["seconds"]
        if rule == "attack":
            return document["reports"][f"{wildcards['name']}/{wildcards['report']}"]["seconds"]
        if rule == "measure":
            return document["measures"][f"{wildcards['name']}/{wildcards['measures']}"]["seconds"]
        return job_costs.NOTEBOOK_SECONDS if rule in ("dataset", "site") else None

    found = {job: seconds(rule, wildcards) for job, (rule, wildcards, _) in jobs.items()}
    return {job: value for job, value in found.items() if value is not None}


def show_plan(jobs: dict, times: dict[str, float], workers: int) -> None:
    """One line a job with its reason and its time, and the sum."""
    for job, (_, _, why) in jobs.items():
        if job in times:
            say(f"  {job:<60} {in_words(times[job]):>8}  {' '.join(why.split())[:100]}")
    at_once = f", {workers} at a time" if workers > 1 else ""
    say(f"{len(times)} jobs, about {in_words(sum(times.values()) / workers)} in all{at_once} (timed steps, and what jobs took before)")


def where(cluster: str | None, cores: int | None) -> tuple[list[str], int]:
    """Options of Snakemake that say where the jobs run, and how many run at a time."""
    if cluster is None:
        cores = cores or os.cpu_count() or 1
        return ["--cores", str(cores), *gpu_options()], cores
    profile = ROOT / "workflow" / "profiles" / cluster / "config.yaml"
    if not profile.is_file():
        there = ", ".join(sorted(path.parent.name for path in profile.parents[1].glob("*/config.yaml")))
        raise ReproduceError(f"cluster must be one of {there} (folders of workflow/profiles); got {cluster!r}")
    jobs = cores or yaml.safe_load(profile.read_text(encoding="utf-8"))["jobs"]
    return ["--workflow-profile", f"code/workflow/profiles/{cluster}", "--jobs", str(jobs)], jobs


def reproduce(plan: plans.Plan, *, cores: int | None, dry_run: bool, targets: list[str], cluster: str | None, options: list[str]) -> bool:
    """All of it; True if nothing failed."""
    for target in targets:
        if target not in TARGETS and "/" not in target:
            raise ReproduceError(f"a target must be one of {', '.join(TARGETS)}, or a file of the workflow; got {target!r}")
    places, at_once = where(cluster, cores)
    folder = engine.set_up(plan)
    with lock(folder):
        if plan.publishes and not dry_run:
            keep_manifest(plan)
        damaged = whole.find(engine.write_plan(plan, job_costs.load(folder)), folder)
        again = list(dict.fromkeys(damage.output for damage in damaged))  # whatever the targets
        planned = Planned()
        if not engine.snakemake(plan, ["--cores", "1", *targets, "--dry-run", *(["--forcerun", *again] if again else [])], planned):
            raise ReproduceError(" ".join(" ".join(planned.errors).split()) or "Snakemake found no way to make this")
        jobs = planned.jobs
        if not jobs:
            say("Nothing to do: all of it is there, and nothing that it depends on has changed.")
            return True
        rows = [plan.rows[w["name"]] for rule, w, _ in jobs.values() if rule in ("train", "attack", "measure")]
        times = expected(engine.write_plan(plan, job_costs.measure(rows, folder)), jobs)
        workers = max(1, min(at_once, len(times)))
        for damage in damaged:
            say(f"  {damage.output} is made again: {damage.why}")
        show_plan(jobs, times, workers)
        if dry_run:
            return True
        if rows:
            check_tree(plan)
        whole.put_aside(damaged)
        progress = ProgressLine(times, workers)
        wanted = [*(targets or ["all"]), *again]
        went_well = engine.snakemake(plan, [*places, *wanted, *options], progress)
        if "--touch" not in options:  # which takes a moment, and says nothing of the job
            job_costs.remember(progress.took, folder)
        if not went_well:
            report(progress)
            if shutil.disk_usage(folder).free < LEAST_FREE:
                complain(f"The disk of {folder} is full. Free some space and give the same command again: it goes on where it stopped.")
        return went_well


def report(progress: ProgressLine) -> None:
    """What failed and why, and what could not be done for it."""
    complain(f"\n{len(progress.failed)} of {len(progress.expected)} jobs failed:")
    for job, why in progress.failed.items():
        complain(f"  {job}: {why}")
    waiting = [job for job in progress.expected if job not in progress.took and job not in progress.failed]
    if waiting:
        complain(f"{len(waiting)} that depend on them were not begun: {', '.join(waiting)}")
    for line in [] if progress.failed else progress.other:
        complain(line)


def main(arguments: list[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    given, options = (given[: given.index("--")], given[given.index("--") + 1 :]) if "--" in given else (given, [])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", help="what to make (default: all of it)")
    parser.add_argument("--profile", choices=plans.PROFILES, default="smoke", help="how much is run (smoke)")
    parser.add_argument("--cores", type=int, help="jobs at a time (default: all cores; on a cluster, what its profile says)")
    parser.add_argument("--cluster", help="submit the jobs with this profile (slurm) instead of running them here")
    parser.add_argument("--grid", type=Path, help="a grid of runs in place of the profile's own, such as workflow/grids/search.csv")
    parser.add_argument("--name", help="of the results, data/results/NAME (default: the grid's name)")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done and what it would cost")
    chosen = parser.parse_args(given)
    start = time.monotonic()
    try:
        plan = plans.make(chosen.profile, chosen.root, chosen.grid, chosen.name)
        plans.describe(plan, job_costs.Costs())  # a mistake in the grid or the book is told before any work
        settings = dict(cores=chosen.cores, dry_run=chosen.dry_run, targets=chosen.targets, cluster=chosen.cluster, options=options)
        went_well = reproduce(plan, **settings)
    except (ReproduceError, ValueError, files.ResultsError, data.DataError) as error:
        complain(str(error))
        return 1
    except OSError as error:  # of Snakemake's own files
        complain(files.not_written(error.filename or plan.folder, error))
        return 1
    site = plan.folder / "_build" / "html" / "index.html"
    say(f"{'all of it' if went_well else 'what went well'}: {time.monotonic() - start:.1f} s")
    if went_well and not chosen.dry_run and not chosen.targets:
        say(f"The site is {site}")
    return 0 if went_well else 1


if __name__ == "__main__":
    sys.exit(main())
