"""Gives a level of the node many inputs, in a process of its own: ``python campaign.py LEVEL FIRST COUNT FOLDER``.

An input is made from its level and its number alone, so that a number repeats it. Before an input is given, its number
and then its bytes are written into the folder: after a crash or a hang of this process they tell which it was. A hang
ends the process with the traces of all threads. At the end the process writes its counts as JSON to standard output.
"""

import faulthandler
import json
import os
import re
import resource
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Final, Protocol

import structlog

LEVELS: Final = {
    "headers": "level_files:KeptHeaders",
    "files": "level_files:Files",
    "pdus": "level_pdus:Pdus",
    "messages": "level_messages:Messages",
    "destinations": "level_destinations:Destinations",
}
"""The class of each level, which takes a folder."""

INPUT_SECONDS: Final = 60
"""A hang: inputs take milliseconds, and the time limits of the node are set to seconds, but the machine may be busy."""
CHECK_EVERY: Final = 250
MOST_FINDINGS: Final = 20

Input = list[bytes]
"""What is given at once, or in turns."""


class Level(Protocol):
    """A way into the node."""

    def make(self, random: Random) -> Input:
        """Make an input."""

    def give(self, given: Input) -> str:
        """Give it to the node and say what became of it; any exception is a finding."""

    def check(self) -> None:
        """Raise if the node is not well; asked now and then."""

    def close(self) -> None:
        """End what was started."""


@dataclass
class Report:
    """What became of a campaign; memory in bytes, resident, of this process."""

    level: str
    inputs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    memory_at_start: int = 0
    memory_at_most: int = 0
    slowest_seconds: float = 0.0
    seconds: float = 0.0


def main(name: str, first: int, count: int, folder: Path) -> Report:
    """Run a campaign."""
    warnings.simplefilter("ignore")
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    report = Report(name)
    _watch_threads(report)
    level = _level(name)(folder)
    started = time.monotonic()
    try:
        for number in range(first, first + count):
            _run(level, number, folder, report)
            if number == first + count // 10:
                report.memory_at_start = _memory()
    finally:
        level.close()
    report.seconds = time.monotonic() - started
    report.memory_at_most = _most_memory()
    return report


def input_of(name: str, level: Level, number: int) -> Input:
    """The input of a number."""
    return level.make(Random(f"{name} {number}"))


def _level(name: str) -> Callable[[Path], Level]:
    module, _, kind = LEVELS[name].partition(":")
    level: Callable[[Path], Level] = getattr(import_module(module), kind)
    return level


def _run(level: Level, number: int, folder: Path, report: Report) -> None:
    given = input_of(report.level, level, number)
    (folder / "given").write_text("\n".join([str(number), *(part.hex() for part in given)]))
    started = time.monotonic()
    with _Deadline():
        try:
            report.outcomes[level.give(given)] += 1
            if number % CHECK_EVERY == CHECK_EVERY - 1:
                level.check()
        except Exception:  # noqa: BLE001 - whatever it is, it is a finding
            _find(report, f"input {number} of {report.level}: {traceback.format_exc()}", folder, number)
    report.inputs += 1
    report.slowest_seconds = max(report.slowest_seconds, time.monotonic() - started)


class _Deadline:
    """Ends the process, with the traces of all threads, if the block takes too long."""

    def __enter__(self) -> None:
        faulthandler.dump_traceback_later(INPUT_SECONDS, exit=True)

    def __exit__(self, *_: object) -> None:
        faulthandler.cancel_dump_traceback_later()


def _find(report: Report, what: str, folder: Path, number: int) -> None:
    os.replace(folder / "given", folder / f"finding-{report.level}-{number}")  # noqa: PTH105
    report.findings.append(what)
    if len(report.findings) >= MOST_FINDINGS:
        raise SystemExit(json.dumps(vars(report)))


def _watch_threads(report: Report) -> None:
    """A thread that dies of an exception is a finding."""

    def died(arguments: threading.ExceptHookArgs) -> None:
        trace: TracebackType | None = arguments.exc_traceback
        report.findings.append(
            "a thread died: " + "".join(traceback.format_exception(arguments.exc_value)) + str(trace)
        )

    threading.excepthook = died


def _memory() -> int:
    """Resident bytes now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _most_memory() -> int:
    """The most resident bytes of this program; ``ru_maxrss`` would count those of the process that started it, too."""
    (peak,) = re.findall(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(peak) * 1024


def as_json(report: Report) -> str:
    """For the process that started this one."""
    return json.dumps(vars(report))


def from_json(text: str) -> Report:
    """What ``as_json`` wrote."""
    content: Mapping[str, Any] = json.loads(text)
    return Report(**{**content, "outcomes": Counter(content["outcomes"])})


if __name__ == "__main__":
    sys.stdout.write(as_json(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))))
