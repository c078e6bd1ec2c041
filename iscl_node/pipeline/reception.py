"""From the wire to the spool: what happens before a sender gets its answer."""

from collections.abc import Callable

from iscl_node.dicom.header import read_header
from iscl_node.domain import ReceivedInstance
from iscl_node.store.spool import Spool


def reception(spool: Spool) -> Callable[[ReceivedInstance], None]:
    """What the Storage SCP calls for each instance; it returns when the bytes are on disk.

    Raises (the returned function)
    ------------------------------
    RejectInstanceError
        If the data set cannot be understood or the spool cannot take it.
    """

    def receive(instance: ReceivedInstance) -> None:
        spool.store(read_header(instance.part10), instance.part10)

    return receive
