"""The exceptions of the node; the class says what happens next, the message says why.

::

    IsclNodeError
    ├── ConfigurationError      the process does not start (exit code 2)
    ├── StartAgainError         the process ends (exit code 75); what started it starts it again
    ├── RejectInstanceError     the sender gets a failure status and keeps its copy
    ├── IgnoreSeriesError       the series is left alone, and nobody need look
    ├── QuarantineSeriesError   the series waits in quarantine until a person decides
    └── RetryLaterError         the same step again, after a back-off

Every message is read by a person: it names what was found, what was expected and,
where there is one, the setting that changes it. No message carries patient data.
"""


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
