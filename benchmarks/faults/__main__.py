"""Campaign of faults: counts wrong answers, lost files and left processes under odd requests, kills, signals, full
disks, overload, starts and a soak.

Run from the repository's root: ``python -m benchmarks.faults --minutes 60 --models fp32=PATH int8=PATH``. A part is
done in episodes. The parts take turns, each for its share of the time. Everything is seeded. Episodes of earlier calls
in the output folder are kept: a campaign can be made in several calls, and goes on after an interrupt. The exit code is
1 if there is a fault.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import shlex
import tempfile
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.cpp_models import named_models
from benchmarks.faults import files, overload, requests, runs, soak, starts, stops
from benchmarks.faults.episode import Episode, Outcome, Part, Setting, now
from benchmarks.faults.left_behind import marked_environment
from benchmarks.faults.page import page
from benchmarks.faults.subjects import prepare
from deployment_toolkit.cpp_host.library import build_library
from deployment_toolkit.errors import UsageError
from deployment_toolkit.files.atomic import write_text
from deployment_toolkit.files.locks import sole_user
from deployment_toolkit.options.params import add_dataclass, from_args, make_parser, option, run_entry_point
from deployment_toolkit.results.tables import read_records, write_csv
from runner.serving import read_system_info

logger = logging.getLogger("faults")

CSV_FILE, PAGE_FILE = "faults.csv", "faults.md"
# Each part with its share of the time.
PARTS: Mapping[str, tuple[Part, float]] = {
    "requests": (requests.odd_requests, 1.0),
    "starts": (starts.start, 1.5),
    "kills": (files.kill, 1.5),
    "runs": (runs.run, 1.5),
    "stops": (stops.stop, 1.0),
    "disks": (files.disk, 0.5),
    "overload": (overload.overload, 0.5),
    "soak": (soak.soak, 1.5),
}


@dataclass(frozen=True)
class FaultsOptions:
    """Options of the command."""

    models: list[str] = option(
        "NAME=PATH of each model: a SavedModel, an ONNX file or an OpenVINO folder", nargs="+", type=str
    )
    minutes: float = option("time of this call; an episode that has begun is finished", 60.0)
    parts: list[str] = option("only these", list(PARTS), choices=list(PARTS), nargs="+")
    episode_s: float = option("seconds for which an episode sends requests", 20.0)
    soak_s: float = option("seconds of an episode of the soak", 600.0)
    seed: int = option("of everything", 1)
    output_dir: Path = option("folder of the results", Path("faults"))

    def __post_init__(self) -> None:
        named_models(self.models)
        if min(self.minutes, self.episode_s, self.soak_s) <= 0:
            raise UsageError("--minutes, --episode-s and --soak-s must be more than 0")
        if "disks" in self.parts and os.geteuid() != 0:
            raise UsageError("--parts disks needs root, to mount file systems: leave it out")


def main(argv: list[str]) -> int:
    parser = make_parser(__doc__ or "")
    add_dataclass(parser, FaultsOptions)
    options = from_args(FaultsOptions, parser.parse_args(argv))
    options.output_dir.mkdir(parents=True, exist_ok=True)
    build_library()
    alone = sole_user(
        options.output_dir,
        f"another campaign writes to {options.output_dir}",
        "wait for it, or choose another --output-dir",
    )
    with alone, tempfile.TemporaryDirectory(prefix="faults_") as folder:
        done = read_records(options.output_dir / CSV_FILE, Episode)
        setting = Setting(
            subjects=prepare(named_models(options.models), options.seed),
            folder=Path(folder),
            output_dir=options.output_dir,
            seed=options.seed,
            environment=marked_environment(uuid.uuid4().hex),
            seconds=options.episode_s,
        )
        if {"kills", "disks", "runs"} & set(options.parts):
            logger.info("making small data, a checkpoint and models")
            files.make_once(setting)
        _campaign(setting, options, done)
    made_by = shlex.join(["python", "-m", "benchmarks.faults", *argv])
    text = page(done, read_system_info().summary, made_by)
    write_text(options.output_dir / PAGE_FILE, text)
    print(text)
    return int(any(episode.faults for episode in done))


def _campaign(setting: Setting, options: FaultsOptions, done: list[Episode]) -> None:
    """Does episodes until the time is over: always one of the part that has had the least of its share."""
    begun = time.monotonic()
    spent = dict.fromkeys(options.parts, 0.0)
    while (used := time.monotonic() - begun) < 60 * options.minutes or 0.0 in spent.values():
        name = min(spent, key=lambda part: spent[part] / PARTS[part][1])
        seconds = options.soak_s if name == "soak" else options.episode_s
        episode = run_episode(setting, name, 1 + sum(one.part == name for one in done), seconds)
        spent[name] += max(episode.seconds, 0.001)
        done.append(episode)
        write_csv(options.output_dir / CSV_FILE, [asdict(one) for one in done])
        logger.log(
            logging.ERROR if episode.faults else logging.INFO,
            "%.0f of %g min: %s %d, %s: %d faults%s",
            used / 60,
            options.minutes,
            episode.part,
            episode.number,
            episode.subject,
            episode.faults,
            f" ({episode.note})" if episode.note else "",
        )


def run_episode(setting: Setting, name: str, number: int, seconds: float) -> Episode:
    """One episode of a part; an error in it is a fault of its own, and the campaign goes on."""
    outcome, started, begun = Outcome(), now(), time.monotonic()
    try:
        PARTS[name][0](_for(setting, seconds), number, setting.random(name, number), outcome)
    except Exception as error:
        logger.exception("%s %d failed", name, number)
        outcome.add("others", 1, f"{type(error).__name__}: {error}")
    return Episode(
        **outcome.counts,
        part=name,
        number=number,
        subject=outcome.subject,
        date=started,
        seconds=round(time.monotonic() - begun, 2),
        note="; ".join(outcome.notes),
    )


def _for(setting: Setting, seconds: float) -> Setting:
    return dataclasses.replace(setting, seconds=seconds)


if __name__ == "__main__":
    run_entry_point(main)
