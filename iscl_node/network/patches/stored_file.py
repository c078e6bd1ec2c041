"""Replaces ``Association.send_c_store`` for a file that goes as it is."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydicom.filereader import read_dataset, read_preamble
from pydicom.tag import BaseTag
from pydicom.uid import UID
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE

_LOW = 2
"""Priority (PS3.7 9.3.1.1), pynetdicom's default."""

_FILE_META = 0x0002
"""Group of the File Meta Information (PS3.10 7.1)."""


@dataclass(frozen=True)
class StoredFile:
    """A DICOM file, what its File Meta Information says of it, and where its data set begins (bytes)."""

    path: Path
    sop_class_uid: UID
    sop_instance_uid: UID
    transfer_syntax_uid: UID
    offset: int

    @classmethod
    def at(cls, path: Path, stream: BinaryIO) -> "StoredFile":
        """Read the File Meta Information of a file from a stream that begins as the file does.

        Raises
        ------
        OSError, InvalidDicomError, AttributeError
            It cannot be read, is no DICOM file, or its File Meta Information is incomplete.
        """
        read_preamble(stream, force=False)
        meta = read_dataset(stream, is_implicit_VR=False, is_little_endian=True, stop_when=_is_beyond)
        uids = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID
        return cls(path, *uids, offset=stream.tell())


def _is_beyond(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    """Whether an element is none of the File Meta Information."""
    return tag.group != _FILE_META


def send_as_it_is(association: Association, file: StoredFile, context_id: int, message_id: int) -> int | None:
    """Send a C-STORE request whose data set is the file's, byte for byte; the status, or None without an answer.

    pynetdicom 3.0.4 decodes the file and encodes it anew, or, where a setting of the whole process has it send the
    bytes, opens it once more; and each time it first has the association's reactor pause, which takes a millisecond,
    so that it does not take the response. Ours never does: see `responses`.

    Parameters
    ----------
    association : Association
        One that we requested, and that is established.
    file : StoredFile
        What is sent.
    context_id : int
        Of a presentation context that was accepted for its SOP Class and transfer syntax.
    message_id : int
        0 to 65535.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    request = C_STORE()
    request.MessageID = message_id
    request.Priority = _LOW
    request.AffectedSOPClassUID = file.sop_class_uid
    request.AffectedSOPInstanceUID = file.sop_instance_uid
    request._dataset_path = (file.path, file.offset)
    association.dimse.send_msg(request, context_id)
    _, response = association.dimse.get_msg(block=True)
    if response is None:
        association._handle_no_response()
        return None
    status = association._check_received_status(response)
    return int(status.Status) if "Status" in status else None
