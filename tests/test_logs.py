"""The log: what stands in a line, and what never does."""

import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

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
    "text", ["10.1.2.3", "192.168.100.100:104", "1.2.840.10008.5.1.4.1.1.2", "torch 2.6.0", "0.25"]
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
    assert (line["event"], line["library"], line["fault"], line["level"]) == ("library", name, "KeyError", "warning")
    assert "test_logs.py:" in line["place"]


def test_errors_of_a_library_are_told_each_time(lines: Lines) -> None:
    for _ in range(2):
        logging.getLogger("dbos").error("Doe^Jane")
    assert [line["level"] for line in lines()] == ["error", "error"]


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
