"""The log: what stands in a line, and what never does."""

import contextlib
import fcntl
import io
import json
import logging
import os
import select
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import time_machine

from iscl_node import logs

UID = "1.2.826.0.1.3680043.10.999.7"
KEY = b"k" * 32

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """A configured log, whose lines can be asked for."""
    stream = io.StringIO()
    for name in ("root", "dbos"):
        logger = logging.getLogger(None if name == "root" else name)
        monkeypatch.setattr(logger, "handlers", [])
        monkeypatch.setattr(logger, "propagate", logger.propagate)
    for module, name in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
        monkeypatch.setattr(module, name, getattr(module, name))
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    logs.configure(KEY, {"model": "m", "settings": "s"})
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    structlog.reset_defaults()


def test_uids_are_hashed_with_the_key_wherever_they_stand(lines: Lines) -> None:
    structlog.get_logger().info(f"{UID} came", series_uid=UID, reason=f"{UID}.dcm is gone", count=2)
    (line,) = lines()
    name = logs.hashed(KEY, UID)
    assert (line["event"], line["series_uid"], line["reason"]) == (f"{name} came", name, f"{name}.dcm is gone")
    assert line["count"] == 2
    assert len(name) == logs.SHORT_DIGEST_LENGTH
    assert name != logs.hashed(b"another", UID)


@pytest.mark.parametrize(
    "text",
    ["10.1.2.3", "192.168.100.100:104", "1.2.840.10008.5.1.4.1.1.2", "1.2.840.113619.5.2", "torch 2.6.0", "0.25"],
)
def test_what_is_no_uid_of_a_patient_stays_as_it_is(lines: Lines, text: str) -> None:
    structlog.get_logger().info("told", reason=text)
    assert lines()[0]["reason"] == text


def test_every_line_names_model_and_settings(lines: Lines) -> None:
    structlog.get_logger().info("told")
    logging.getLogger("pynetdicom").warning("Doe^Jane")
    assert [(line["model"], line["settings"]) for line in lines()] == [("m", "s")] * 2


@pytest.mark.fault(
    "machine",
    "an exception quotes patient data",
    "the log line has its kind and place, and not its text",
)
def test_an_exception_is_told_without_what_it_says(lines: Lines) -> None:
    try:
        try:
            raise ValueError("Doe^Jane")
        except ValueError as error:
            raise OSError(28, "Doe^Jane", "Doe^Jane.dcm") from error
    except OSError:
        structlog.get_logger().exception("failed")
    (line,) = lines()
    assert "Doe" not in str(line)
    assert line["fault"] == "OSError"
    assert line["places"][0] == "OSError: No space left on device"
    assert "ValueError" in line["places"]
    assert any("test_logs.py" in place for place in line["places"])


@pytest.mark.parametrize("name", ["pydicom", "pynetdicom.assoc", "dbos", "uvicorn.error", "py.warnings"])
@pytest.mark.fault(
    "machine",
    "a library logs patient data",
    "the log line has its place, and not its text",
)
def test_what_a_library_logs_is_told_without_what_it_says(lines: Lines, name: str) -> None:
    for _ in range(2):
        try:
            raise KeyError("Doe^Jane")
        except KeyError:
            logging.getLogger(name).warning("Doe^Jane of %s", UID, exc_info=True)
    (line,) = lines()  # again from the same place it would tell nothing new
    assert "Doe" not in str(line)
    assert (line["event"], line["library"], line["fault"], line["level"]) == (
        "library.logged",
        name,
        "KeyError",
        "warning",
    )
    assert "test_logs.py:" in line["place"]


@pytest.mark.fault(
    "machine",
    "a library logs the same error a thousand times a second",
    "ten of a place are logged in a minute, and then how many were left out",
)
def test_errors_of_a_library_are_told_a_few_times_a_minute(lines: Lines) -> None:
    with time_machine.travel(1_000, tick=False) as clock:
        for _ in range(2):
            for _ in range(1_000):
                logging.getLogger("dbos").error("Doe^Jane")
            clock.shift(61)
    told = lines()
    assert [line["level"] for line in told] == ["error"] * 20
    assert [line.get("left_out") for line in told] == [None] * 10 + [990] + [None] * 9


def test_a_warning_is_told_without_what_it_says(lines: Lines) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = logs._tell_warning
        warnings.warn("Invalid value for VR DA: Doe^Jane", UserWarning, stacklevel=1)
    (line,) = lines()
    assert "Doe" not in str(line)
    assert line["fault"] == "UserWarning"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.fault(
    "machine",
    "a thread ends with an exception that quotes patient data",
    "the log line has its kind, and not its text",
)
def test_a_fault_that_ends_a_thread_is_told_without_what_it_says(lines: Lines) -> None:
    def fail() -> None:
        raise ValueError("Doe^Jane")

    logs.tell_faults_of_threads()
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    sys.excepthook(KeyError, KeyError("Doe^Jane"), None)
    assert [line["fault"] for line in lines()] == ["ValueError", "KeyError"]
    assert "Doe" not in str(lines())


class Pipe:
    """A log that is read at the other end of a pipe."""

    def __init__(self) -> None:
        self.reader, writer = os.pipe()
        self.stream = os.fdopen(writer, "w")
        self.lost = 0
        self.output = logs.LogOutput(self.stream, self._count)

    def _count(self) -> None:
        self.lost += 1

    def read(self) -> str:
        return os.read(self.reader, 1 << 20).decode()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.stream.close()
    with contextlib.suppress(OSError):
        os.close(pipe.reader)


@pytest.mark.fault("machine", "who reads the log is gone", "the line is lost and counted, and who logs it goes on")
def test_a_line_that_nobody_reads_is_lost_and_counted(pipe: Pipe) -> None:
    os.close(pipe.reader)
    for _ in range(2):
        pipe.output.write("told\n")
    assert (pipe.output.lines_lost, pipe.lost, pipe.output.is_losing) == (2, 2, True)


@pytest.mark.fault("machine", "who reads the log hangs", "lines are lost and counted until it reads again")
def test_who_logs_does_not_wait_for_a_reader_that_hangs(pipe: Pipe) -> None:
    fcntl.fcntl(pipe.stream, fcntl.F_SETPIPE_SZ, select.PIPE_BUF)
    pipe.output.write("a" * (select.PIPE_BUF - 1) + "\n")
    pipe.output.write("lost\n")
    assert pipe.lost == 1
    pipe.read()
    pipe.output.write("told\n")
    assert (pipe.read(), pipe.lost, pipe.output.is_losing) == ("told\n", 1, False)


def test_a_line_behind_one_that_was_torn_stands_alone(pipe: Pipe) -> None:
    fcntl.fcntl(pipe.stream, fcntl.F_SETPIPE_SZ, select.PIPE_BUF)
    pipe.output.write("a" * 2 * select.PIPE_BUF + "\n")
    assert pipe.lost == 1
    pipe.read()
    pipe.output.write("told\n")
    assert pipe.read() == "\ntold\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")
def test_a_full_disk_fails_nobody_who_logs() -> None:
    with Path("/dev/full").open("w") as full:
        output = logs.LogOutput(full)
        output.write("told\n")
    output.write("told\n")  # to a file that is closed by now
    assert output.lines_lost == 2


def test_without_standard_error_every_line_is_lost() -> None:
    output = logs.LogOutput(None)
    print("told", file=output, flush=True)
    assert output.lines_lost == 2  # print writes the end of the line by itself


def test_the_next_line_says_how_many_were_lost(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", pipe.stream)
    output = logs.configure(KEY)
    output.lines_lost = 3
    structlog.get_logger().info("told")
    assert json.loads(pipe.read())["lines_lost"] == 3


def test_prints_of_libraries_fail_nobody(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    os.close(pipe.reader)
    logs.guard_prints(pipe.output)
    print("told", flush=True)  # noqa: T201
    print("told", file=sys.stderr, flush=True)  # noqa: T201
    assert pipe.lost


@pytest.mark.fault(
    "machine",
    "a caller who is rejected again and again",
    "ten lines a minute for each event, host and reason; the next one says how many were left out",
)
def test_lines_that_a_caller_causes_are_limited() -> None:
    now = [1000.0]
    limited = logs._Callers(lambda: now[0])

    def told(**line: object) -> list[dict[str, object]]:
        with contextlib.suppress(structlog.DropEvent):
            return [dict(limited(None, "", {"event": "association.rejected", **line}))]
        return []

    assert sum(len(told(host="10.0.0.9", reason="host")) for _ in range(25)) == 10
    assert told(host="10.0.0.8", reason="host") == [
        {"event": "association.rejected", "host": "10.0.0.8", "reason": "host"}
    ]
    assert all(told(series_uid="2.25.1") for _ in range(25))
    now[0] += 61
    assert told(host="10.0.0.9", reason="host")[0]["lines_left_out"] == 15
    assert "lines_left_out" not in told(host="10.0.0.9", reason="host")[0]
    assert sum(len(told(host=f"10.0.{number}", reason="host")) for number in range(3000)) < 1001
