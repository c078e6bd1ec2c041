"""What the last answer to a request of ours means: done, worth another try, or nothing this peer will ever do."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pydicom.dataset import Dataset

from iscl_node.domain import Peer
from iscl_node.errors import OutsideBytesError, RetryLaterError, outside_bytes

SUCCESS = 0x0000
CANCELED = 0xFE00
_OUT_OF_RESOURCES = range(0xA700, 0xA800)
_TRANSIENT = (0x0110, 0x0213, CANCELED)
"""Processing failure, resource limitation (PS3.7 C.5.18, C.5.25) and cancel are about the peer's state."""


class ServiceRefusedError(RetryLaterError):
    """The peer takes the association and refuses the request for good, as far as its status shows.

    Trying again helps once somebody changed the peer's configuration.
    """


def final_status(response: Dataset) -> int | None:
    """The status of a response as pynetdicom gives it; None if there was none."""
    return int(response.Status) if "Status" in response else None


def failure(
    peer: Peer, request: str, status: int | None, words: Mapping[int, tuple[str, str]], hint: str = ""
) -> RetryLaterError:
    """What to do about a status that is no success.

    Parameters
    ----------
    peer : Peer
        Who answered.
    request : str
        What was asked, as in "C-FIND".
    status : int or None
        None if there was no answer.
    words : mapping
        The kind and the name of each status, as pynetdicom has them.
    hint : str
        What a person can do about it.
    """
    if status is None:
        return RetryLaterError(f"peer {peer.name} did not answer the {request}{hint}")
    name = words.get(status, ("", ""))[1].lower() or "no standard status"
    message = f"peer {peer.name} answered the {request} with status {status:04X} ({name}){hint}"
    if status in _OUT_OF_RESOURCES or status in _TRANSIENT:
        return RetryLaterError(message)
    return ServiceRefusedError(message)


@contextmanager
def lies_told(peer: Peer, request: str) -> Iterator[None]:
    """Turn an error in decoding a peer's response into one that is worth another try.

    The association may also have ended since it was last looked at, which is a RuntimeError.
    """
    try:
        with outside_bytes():
            yield
    except OutsideBytesError as error:
        raise RetryLaterError(f"peer {peer.name} ended the {request}, or broke its rules ({error})") from error
