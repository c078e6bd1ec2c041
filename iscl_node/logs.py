"""The log: one JSON object per line on standard error, in which no patient can be found.

What identifies a series is hashed with a secret key; docs/security.md says how to find it again. What libraries say is
left out, because they quote values of data sets in messages, warnings and exceptions: a line says which library spoke
up, where, and with which kind of fault.
"""

import hmac
import io
import logging
import os
import re
import select
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any, TextIO, cast

import structlog

SHORT_DIGEST_LENGTH = 12
"""Hexadecimal digits of a hash or a digest in a log line."""

_UID = re.compile(r"(?<![\w.])(?!1\.2\.840\.(?:10008\.|113619\.5\.2(?![\w.])))[0-2](?:\.[0-9]+){2,}")
"""A UID that is none of the standard's own, nor GE's transfer syntax: those are the same for everybody."""
_LONGEST_IP_ADDRESS = 15
_ERRORS_AT_A_TIME = 10
_ERRORS_SECONDS = 60
_UNHEARD = ("dbos",)
"""Loggers that would otherwise print by themselves."""
_MINUTE_SECONDS = 60.0
_LINES_A_MINUTE = 10
"""That one caller may cause of one kind."""
_CALLERS_A_MINUTE = 1000
"""Callers and kinds together; what is beyond is in the metrics only."""
_READER_SECONDS = 1.0
"""How long a line waits for a reader that lags; once a line was lost, the next ones do not wait."""

_log = structlog.get_logger(__name__)


def hashed(key: bytes, uid: str) -> str:
    """What stands in a log line for a UID: the first digits of its HMAC-SHA-256 (RFC 2104)."""
    return hmac.digest(key, uid.encode(), "sha256").hex()[:SHORT_DIGEST_LENGTH]


class LogOutput(io.TextIOBase):
    """Standard error, where writing never fails and never waits for long: what it does not take is lost, and counted.

    The reader of a pipe may have gone or hang, and a disk may be full; the work goes on without the line.

    Parameters
    ----------
    stream : TextIO or None
        Where lines go; None where the process was started without it.
    lost : callable
        Called for each line that is lost.
    """

    def __init__(self, stream: TextIO | None, lost: Callable[[], object] = int) -> None:
        self._stream = stream
        self._descriptor = _descriptor_of(stream)
        self._lost = lost
        self._lock = threading.RLock()  # a line may be logged while another is, by what the garbage collector ends
        self._seconds = _READER_SECONDS
        self._is_torn = False
        self.lines_lost = 0

    @property
    def is_losing(self) -> bool:
        """Whether the last line was lost."""
        return self._seconds == 0

    def write(self, text: str) -> int:
        """Write a line, or lose it."""
        with self._lock:
            try:
                self._write(text)
                self._seconds = _READER_SECONDS
            except (OSError, ValueError):  # a ValueError of a stream that was closed
                self._seconds = 0
                self.lines_lost += 1
                self._lost()
        return len(text)

    def _write(self, text: str) -> None:
        if self._descriptor is not None:
            self._write_bytes(self._descriptor, text.encode(errors="backslashreplace"))
        elif self._stream is not None:
            self._stream.write(text)
            self._stream.flush()
        else:
            raise BrokenPipeError

    def _write_bytes(self, descriptor: int, line: bytes) -> None:
        """Write a line past Python's buffers, which would keep what was not taken and fail with it again."""
        rest = b"\n" + line if self._is_torn else line
        while rest:
            if not _takes_more(descriptor, self._seconds):
                raise BlockingIOError
            rest = rest[os.write(descriptor, rest[: select.PIPE_BUF]) :]
            self._is_torn = bool(rest)


def _descriptor_of(stream: TextIO | None) -> int | None:
    try:
        return None if stream is None else stream.fileno()
    except (OSError, ValueError):  # it is in memory, or closed
        return None


def _takes_more(descriptor: int, seconds: float) -> bool:
    """Whether so many bytes as a pipe takes in one piece can be written without waiting (pipe(7)), or fail at once."""
    writable = select.poll()
    writable.register(descriptor, select.POLLOUT)
    return bool(writable.poll(seconds * 1000))


def configure(
    key: bytes | None = None, facts: Mapping[str, str] | None = None, lost: Callable[[], object] = int
) -> LogOutput:
    """Set up logging for this process; a second call is for what was not known before.

    Parameters
    ----------
    key : bytes or None
        Hashes UIDs; without it, a random key.
    facts : mapping of str to str
        Fields of every line.
    lost : callable
        Called for each line that is lost.

    Returns
    -------
    LogOutput
        Where the lines go.
    """
    output = LogOutput(sys.stderr, lost)
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _Facts(facts or {}),
        partial(_with_loss_told, output),
        _Callers(),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _with_fault_told,
        _UidsHashed(os.urandom(32) if key is None else key),
        structlog.processors.JSONRenderer(),
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, output)),
    )
    handler = _LibraryHandler()
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for name in _UNHEARD:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
    warnings.showwarning = _tell_warning
    return output


def guard_prints(output: LogOutput) -> None:
    """Send what libraries print where a closed standard error makes no faults."""
    sys.stdout = sys.stderr = output


@contextmanager
def unforeseen_logged(event: str, *passing: type[Exception], **fields: object) -> Iterator[None]:
    """Log an unexpected error and go on after the ``with`` block, where the caller answers for it.

    Parameters
    ----------
    event : str
        Of the log.
    *passing
        Classes of errors that go through unchanged.
    **fields
        Of the log.
    """
    try:
        yield
    except passing:
        raise
    except Exception:  # noqa: BLE001 - the edge of a service: the caller answers for it
        _log.exception(event, **fields)


def tell_faults_of_threads() -> None:
    """Have uncaught exceptions logged like all others; Python would print them with their messages."""

    def tell(error: BaseException | None) -> None:
        _log.error("thread.failed", exc_info=error)

    sys.excepthook = lambda _kind, error, _trace: tell(error)
    threading.excepthook = lambda fault: tell(fault.exc_value)
    sys.unraisablehook = lambda fault: tell(fault.exc_value)


class _Facts:
    """Adds the same fields to every line."""

    def __init__(self, facts: Mapping[str, str]) -> None:
        self._facts = facts

    def __call__(self, _logger: object, _method: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
        line.update(self._facts)
        return line


def _with_loss_told(
    output: LogOutput, _logger: object, _method: str, line: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Say in every line behind a gap how many were lost since the start."""
    if output.lines_lost:
        line["lines_lost"] = output.lines_lost
    return line


class _Callers:
    """Leaves out lines of which a caller, whom the field ``host`` names, causes too many."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._minute = 0.0
        self._counts: Counter[tuple[str, ...]] = Counter()
        self._left_out: Counter[tuple[str, ...]] = Counter()

    def __call__(self, _logger: object, _method: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if "host" not in line:
            return line
        key = tuple(str(line.get(name, "")) for name in ("event", "host", "reason"))
        with self._lock:
            self._begin_minute()
            self._counts[key] += 1
            if self._counts[key] > _LINES_A_MINUTE or len(self._counts) > _CALLERS_A_MINUTE:
                self._left_out[key] += 1
                raise structlog.DropEvent
            left_out = self._left_out.pop(key, 0)
        return {**line, "lines_left_out": left_out} if left_out else line

    def _begin_minute(self) -> None:
        now = self._clock()
        if now - self._minute >= _MINUTE_SECONDS:
            self._minute = now
            self._counts.clear()
            if len(self._left_out) > _CALLERS_A_MINUTE:
                self._left_out.clear()


class _UidsHashed:
    """Hashes every field whose name ends in ``_uid``, and all that looks like a UID in any other text."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __call__(self, _logger: object, _method: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
        for name, value in line.items():
            line[name] = hashed(self._key, str(value)) if name.endswith("_uid") else self._without_uids(value)
        return line

    def _without_uids(self, value: Any) -> Any:
        return _UID.sub(self._hashed_match, value) if isinstance(value, str) else value

    def _hashed_match(self, found: re.Match[str]) -> str:
        text = found[0]
        return hashed(self._key, text) if len(text) > _LONGEST_IP_ADDRESS else text


def _with_fault_told(_logger: object, _method: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Replace an exception by its kind and where it came from."""
    error = _error_of(line.pop("exc_info", None))
    if error is not None:
        line["fault"] = line.get("fault", type(error).__name__)
        line["places"] = list(_places(error))
    return line


def _error_of(exc_info: Any) -> BaseException | None:
    if isinstance(exc_info, BaseException):
        return exc_info
    error = (exc_info if isinstance(exc_info, tuple) else sys.exc_info())[1] if exc_info else None
    return error if isinstance(error, BaseException) else None


def _places(error: BaseException) -> Iterator[str]:
    """The innermost first: the kinds of the exceptions that led to this one, and the lines they went through."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield f"{type(current).__name__}{_number_of(current)}"
        yield from reversed(_lines(current.__traceback__))
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def _lines(trace: TracebackType | None) -> list[str]:
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace, limit=-20)]


def _number_of(error: BaseException) -> str:
    """The operating system's reason, which quotes nothing."""
    return f": {os.strerror(error.errno)}" if isinstance(error, OSError) and isinstance(error.errno, int) else ""


class _LibraryHandler(logging.Handler):
    """Logs that a library logged something, without its text.

    Of warnings from one place, the first; of errors from one place, a few in a minute, and how many were left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self._warned: set[tuple[str, int]] = set()
        self._errors: dict[tuple[str, int], _ErrorsOfAPlace] = {}

    def emit(self, record: logging.LogRecord) -> None:
        place = record.pathname, record.lineno
        facts: dict[str, Any] = {}
        if record.levelno >= logging.ERROR:
            left_out = self._errors.setdefault(place, _ErrorsOfAPlace()).left_out(record.created)
            if left_out is None:
                return
            facts = {"left_out": left_out} if left_out else {}
        elif place in self._warned:
            return
        self._warned.add(place)
        tell = _log.error if record.levelno >= logging.ERROR else _log.warning
        where = f"{record.pathname}:{record.lineno}"
        tell("library.logged", library=record.name, place=where, exc_info=record.exc_info, **facts)


class _ErrorsOfAPlace:
    """Counts errors, so that a fault that comes a thousand times a second does not fill the log's disk."""

    def __init__(self) -> None:
        self._since = -float("inf")
        self._told = self._left_out = 0

    def left_out(self, now: float) -> int | None:
        """How many were left out before this one; None if it is left out, too."""
        if abs(now - self._since) >= _ERRORS_SECONDS:
            self._since, self._told = now, 0
        if self._told >= _ERRORS_AT_A_TIME:
            self._left_out += 1
            return None
        left_out, self._left_out = self._left_out, 0
        self._told += 1
        return left_out


def _tell_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Take the place of ``warnings.showwarning``."""
    _log.warning("library.logged", fault=category.__name__, place=f"{filename}:{lineno}")
