"""Runs campaigns in processes of their own and tells what became of them."""

import json
import os
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Final

from campaign import Report, from_json

ROOT: Final = Path(__file__).parents[2]
PLACES: Final = (ROOT, ROOT / "tests", ROOT / "tests" / "network", Path(__file__).parent)

ADDRESS_SPACE: Final = 6 << 30
"""Bytes: what takes more fails. Threads and libraries reserve much more than they use."""
MOST_GROWTH: Final = 256 << 20
"""Bytes of resident memory beyond what the first tenth of a campaign took."""
MEBIBYTE: Final = 1 << 20


@dataclass(frozen=True)
class Campaign:
    """The inputs of a level from one number to another."""

    level: str
    first: int
    count: int


def split(level: str, count: int, parts: int) -> list[Campaign]:
    """A level's inputs in parts of about the same size."""
    size = -(-count // parts)
    return [Campaign(level, first, min(size, count - first)) for first in range(0, count, size)]


def run(campaigns: Sequence[Campaign], folder: Path) -> Report:
    """Run campaigns of one level side by side; fail with what was found, or with what a process last said."""
    started = [(each, _started(each, folder / f"{each.level}-{each.first}")) for each in campaigns]
    reports = [_ended(campaign, process, folder) for campaign, process in started]
    report = reduce(_together, reports)
    sys.stderr.write(f"\n{told(report)}\n")
    assert not report.findings, "\n\n".join([f"inputs are kept in {folder}", *report.findings])
    assert report.memory_at_most - report.memory_at_start < MOST_GROWTH, told(report)
    return report


def told(report: Report) -> str:
    """A report in a line."""
    outcomes = ", ".join(f"{outcome} {count}" for outcome, count in sorted(report.outcomes.items()))
    return (
        f"{report.level}: {report.inputs} inputs in {report.seconds:.0f} s ({outcomes}); memory"
        f" {report.memory_at_start / MEBIBYTE:.0f} MiB, at most {report.memory_at_most / MEBIBYTE:.0f} MiB;"
        f" slowest input {report.slowest_seconds:.1f} s"
    )


def _started(campaign: Campaign, folder: Path) -> "subprocess.Popen[str]":
    folder.mkdir(parents=True)
    arguments = [campaign.level, str(campaign.first), str(campaign.count), str(folder)]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, PLACES)),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONFAULTHANDLER": "1",
    }
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).parent / "campaign.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=(folder / "stderr").open("w"),
        text=True,
        env=environment,
        preexec_fn=_limit_memory,
    )


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))


def _ended(campaign: Campaign, process: "subprocess.Popen[str]", folder: Path) -> Report:
    output, _ = process.communicate()
    kept = folder / f"{campaign.level}-{campaign.first}"
    said = (kept / "stderr").read_text(errors="replace")[-5000:]
    assert process.returncode in (0, 1), f"ended with {process.returncode}; the input is {kept / 'given'}\n{said}"
    try:
        return from_json(output)
    except json.JSONDecodeError as error:
        raise AssertionError(f"no report; the input is {kept / 'given'}\n{said}") from error


def _together(one: Report, other: Report) -> Report:
    return Report(
        one.level,
        one.inputs + other.inputs,
        Counter(one.outcomes) + Counter(other.outcomes),
        one.findings + other.findings,
        max(one.memory_at_start, other.memory_at_start),
        max(one.memory_at_most, other.memory_at_most),
        max(one.slowest_seconds, other.slowest_seconds),
        max(one.seconds, other.seconds),
    )
