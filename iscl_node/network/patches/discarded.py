"""Adds to ``DIMSEMessage.decode_msg``: a data set that is too much is read and not kept.

pynetdicom 3.0.4 collects a message of any size in memory, and decodes each P-DATA-TF, wanted or
not.
"""

from io import BytesIO
from typing import Any

from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.pdu import P_DATA_TF


class Discarded(BytesIO):
    """Stands for a data set that is too much to keep; ``reason`` is for its sender."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason

    def write(self, data: Any, /) -> int:
        """Throw it away."""
        return len(data)


def discard_data_set(message: DIMSEMessage, reason: str) -> None:
    """Throw away what came of a message's data set, and what still comes."""
    message.data_set = Discarded(reason)


def discard_pdu(pdu: P_DATA_TF) -> None:
    """Throw away what a PDU holds, before pynetdicom adds it to a message."""
    pdu.presentation_data_value_items.clear()
