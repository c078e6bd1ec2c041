"""The header of an instance, kept in memory, so that who asks for it again need not open the file."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset
from pydicom.filereader import data_element_offset_to_value
from pydicom.uid import DeflatedExplicitVRLittleEndian

from iscl_node.dicom.reading.folder import DEFERRED_SIZE, checked

MOST_BYTES: Final = 4 << 20
"""Of one header, that of an image with many frames."""


@dataclass(frozen=True)
class KeptHeader:
    """The bytes of a file before its last element, if that is long, as Pixel Data is, and where that lies in the file.

    Of a file without a long last element they are the whole file.
    """

    start: bytes
    last: RawDataElement | None

    def instance(self, path: Path) -> FileDataset:
        """The instance in a file that has this header, as ``folder.read_instance`` reads it.

        Raises
        ------
        QuarantineSeriesError
            As ``folder.read_instance``.
        """
        instance = dcmread(BytesIO(self.start), force=True)
        # As in a data set that was read from the file: pydicom reads there what is deferred.
        instance.buffer = None
        instance.filename, instance.fileobj_type, instance.timestamp = str(path), open, path.stat().st_mtime
        if self.last is not None:
            instance[self.last.tag] = self.last
        return checked(instance)


def kept_header(stream: BinaryIO) -> KeptHeader | None:
    """The header of a DICOM file; None if it is deflated, or too long to be kept.

    Raises
    ------
    Exception
        The file cannot be read; pydicom raises almost anything for foreign bytes.
    """
    instance = dcmread(stream, defer_size=DEFERRED_SIZE, force=True)
    if instance.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian or not instance:
        return None
    last = instance.get_item(max(instance.keys()), keep_deferred=True)
    if not isinstance(last, RawDataElement) or last.value is not None or last.length == 0:
        return _kept(stream, MOST_BYTES + 1, None)
    return _kept(stream, last.value_tell - data_element_offset_to_value(last.is_implicit_VR, last.VR), last)


def _kept(stream: BinaryIO, length: int, last: RawDataElement | None) -> KeptHeader | None:
    stream.seek(0)
    start = stream.read(min(length, MOST_BYTES + 1))
    return KeptHeader(start, last) if len(start) <= MOST_BYTES else None
