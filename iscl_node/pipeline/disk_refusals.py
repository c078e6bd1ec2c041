"""A disk that refuses something now."""

from collections.abc import Iterator
from contextlib import contextmanager

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
