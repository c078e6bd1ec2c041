"""The exceptions of the node; the class says what happens next, the message says why.

::

    IsclNodeError
    ├── ConfigurationError      the process does not start (exit code 2)
    ├── StartAgainError         the process ends (exit code 75); what started it starts it again
    ├── RejectInstanceError     the sender gets a failure status and keeps its copy
    ├── IgnoreSeriesError       the series is left alone; no action is needed
    ├── QuarantineSeriesError   the series waits in quarantine until a person decides
    ├── RetryLaterError         the same step again, after a back-off
    └── OutsideBytesError       a decoder failed; who asked for it says which of the others that is

Every message is read by a person: it names what was found, what was expected and,
where there is one, the setting that changes it. No message carries patient data.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class IsclNodeError(Exception):
    """Base of every exception the node raises on purpose."""


class ConfigurationError(IsclNodeError):
    """The settings, the bundle or the command line cannot be used as given."""


class StartAgainError(IsclNodeError):
    """The running node cannot go on, and the next start can."""


class RejectInstanceError(IsclNodeError):
    """An instance cannot be accepted; the sender keeps its copy.

    Parameters
    ----------
    status : int
        The C-STORE status for the sender (PS3.4 Table B.2-1): 0xA700 out of resources (worth a
        retry), 0xA900 data set does not match SOP class, 0xC000 cannot understand.
    reason : str
        Why, for the log and for the response's Error Comment (0000,0902).
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class QuarantineSeriesError(IsclNodeError):
    """The series cannot be processed, its result cannot be trusted, or a destination will never take it."""


class IgnoreSeriesError(IsclNodeError):
    """The series is not to be processed, as the settings say or because the node made it."""


class RetryLaterError(IsclNodeError):
    """Nothing is wrong with the series; the step must be tried again later."""


class OutsideBytesError(IsclNodeError):
    """Bytes from outside cannot be decoded. Its text is the class of the decoder's error, whose own may quote them."""


@contextmanager
def outside_bytes(*passing: type[Exception]) -> Iterator[None]:
    """Turn what a decoder raises about bytes from outside, which is almost anything, into one error.

    Parameters
    ----------
    *passing
        Classes of errors that go through unchanged, as those of the node do.

    Raises
    ------
    OutsideBytesError
        From the decoder's error.
    """
    try:
        yield
    except IsclNodeError:
        raise
    except passing:
        raise
    except Exception as error:
        raise OutsideBytesError(type(error).__name__) from error


def text_of(error: BaseException) -> str:
    """Why something failed, for logs and people: in our words or the operating system's, else the class alone.

    Paths hold UIDs, and what other libraries say may quote the patient data that they were given.
    """
    if isinstance(error, IsclNodeError) and str(error):
        return str(error)
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
