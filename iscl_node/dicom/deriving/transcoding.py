"""Which transfer syntax a derived instance is written in, and back to a native one for peers that want that."""

from copy import deepcopy
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian

from iscl_node.dicom.deriving.writing import set_pixels
from iscl_node.dicom.reading.codec import ENCODERS
from iscl_node.dicom.reading.decoding import encoded
from iscl_node.dicom.reading.frames import frames
from iscl_node.dicom.reading.volume import pixel_form, stored_values
from iscl_node.domain import OutputSyntax
from iscl_node.errors import QuarantineSeriesError


def as_asked(derived: Dataset, source: Dataset, syntax: OutputSyntax) -> Dataset:
    """Return a derived instance in the transfer syntax that a rule asks for.

    Parameters
    ----------
    derived : Dataset
        With file meta information, native, Explicit VR Little Endian; it is not changed.
    source : Dataset
        What it was derived from.
    syntax : str
        "explicit", or "source" for the source's transfer syntax if that is one of ``codec.ENCODERS``. Any other
        source, lossy or native, gives Explicit VR Little Endian, and so does a codec that fails on these pixels:
        a series is not held up for the sake of its size.

    Raises
    ------
    RetryLaterError
        As ``decoding.encoded``.
    """
    source_syntax = source.file_meta.TransferSyntaxUID
    if syntax == "explicit" or source_syntax not in ENCODERS:
        return derived
    try:
        return _compressed(derived, source_syntax)
    except QuarantineSeriesError:
        return derived


def native(path: Path) -> FileDataset:
    """Read an instance and return it in Explicit VR Little Endian, for a peer that takes no compressed pixels.

    Raises
    ------
    QuarantineSeriesError, RetryLaterError
        As ``volume.stored_values``.
    """
    dataset = dcmread(path)
    dtype = np.int16 if pixel_form(dataset).is_signed else np.uint16
    stored = np.stack([stored_values(frame).astype(dtype) for frame in frames(dataset)])
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    set_pixels(dataset, stored)
    return dataset


def _compressed(derived: Dataset, transfer_syntax_uid: UID) -> Dataset:
    form = pixel_form(derived, transfer_syntax_uid)
    pixel_data = encapsulate([encoded(form, stored_values(frame)) for frame in frames(derived)])
    compressed = deepcopy(derived)  # a shallow copy of pydicom's shares the elements
    compressed.file_meta.TransferSyntaxUID = transfer_syntax_uid
    compressed.add_new("PixelData", "OB", pixel_data)  # PS3.5 A.4: encapsulated pixels are OB
    compressed["PixelData"].is_undefined_length = True
    return compressed
