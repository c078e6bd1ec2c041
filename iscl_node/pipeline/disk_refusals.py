"""A disk that refuses something now."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from iscl_node.domain import Batch
from iscl_node.errors import RetryLaterError


@contextmanager
def disk_refusals_retried() -> Iterator[None]:
    """A full disk may have room later; a batch that a person took away will not come back."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RetryLaterError(f"the spool refuses it: {error.strerror}") from error


def each_alone(batches: Iterable[Batch], work: Callable[[Batch], object]) -> None:
    """Work on each batch; one that the disk refuses, as for a bad sector in its record, holds up no other.

    Raises
    ------
    OSError, RetryLaterError
        The first refusal, after all others; at once what is none of the disk.
    """
    refusals: list[OSError | RetryLaterError] = []
    for batch in batches:
        try:
            work(batch)
        except (OSError, RetryLaterError) as error:
            if not isinstance(error, OSError) and not isinstance(error.__cause__, OSError):
                raise
            refusals.append(error)
    if refusals:
        raise refusals[0]
