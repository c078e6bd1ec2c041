"""Compressed pixels to stored values and back, by pydicom's codecs and GDCM; runs in the process of ``codec_child``."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import gdcm
import numpy as np
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

BYTES_PER_PIXEL: Final = 2


@dataclass(frozen=True)
class PixelForm:
    """What a codec must know of a frame with one sample per pixel and 16 bits allocated."""

    transfer_syntax_uid: str
    rows: int
    columns: int
    bits_stored: int
    is_signed: bool

    @property
    def native_length(self) -> int:
        """Bytes of the frame without compression."""
        return self.rows * self.columns * BYTES_PER_PIXEL


def decode(form: PixelForm, pixel_data: bytes) -> bytes:
    """Decode one encapsulated frame (PS3.5 A.4).

    Parameters
    ----------
    form : PixelForm
        As the attributes of the Image Pixel Module say.
    pixel_data : bytes
        The value of Pixel Data: offset table and fragments.

    Returns
    -------
    bytes
        The stored values, row by row, 16 bits each, little endian, in two's complement where signed.

    Raises
    ------
    Exception
        Of any kind: codecs raise almost anything on what is broken.
    """
    if form.transfer_syntax_uid == JPEGExtended12Bit:
        native = _decode_jpeg_extended(form, pixel_data)
    else:
        native = _decode_by_pydicom(form, pixel_data)
    if len(native) != form.native_length:
        raise ValueError("the codec gave another number of pixels than the attributes say")
    return native


def encode(form: PixelForm, stored: bytes) -> bytes:
    """Compress one frame without loss.

    Parameters
    ----------
    form : PixelForm
        With one of the transfer syntaxes of ``ENCODERS``.
    stored : bytes
        As ``decode`` returns them.

    Returns
    -------
    bytes
        The bit stream of the frame, not encapsulated.
    """
    return ENCODERS[form.transfer_syntax_uid](form, stored)


def _decode_by_pydicom(form: PixelForm, pixel_data: bytes) -> bytes:
    # Left to itself pydicom silently wraps values that do not fit, which turns a padding of -3024 into bone.
    options = _attributes(form) | {"pixel_keyword": "PixelData", "correct_unused_bits": False}
    array, _ = get_decoder(form.transfer_syntax_uid).as_array(pixel_data, **options)
    return array.astype("<i2" if form.is_signed else "<u2", casting="safe").tobytes()


def _encode_by_pydicom(form: PixelForm, stored: bytes) -> bytes:
    array = np.frombuffer(stored, "<i2" if form.is_signed else "<u2").reshape(form.rows, form.columns)
    return get_encoder(form.transfer_syntax_uid).encode(array, **_attributes(form))


def _attributes(form: PixelForm) -> dict[str, Any]:
    return {
        "rows": form.rows,
        "columns": form.columns,
        "number_of_frames": 1,
        "samples_per_pixel": 1,
        "photometric_interpretation": "MONOCHROME2",
        "bits_allocated": 8 * BYTES_PER_PIXEL,
        "bits_stored": form.bits_stored,
        "pixel_representation": int(form.is_signed),
    }


def _decode_jpeg_extended(form: PixelForm, pixel_data: bytes) -> bytes:
    """Decode process 4 of JPEG (PS3.5 A.4.1).

    pydicom lets no library but one under the GPL decode its 12 bits; GDCM's result is DCMTK's, bit for bit. A signed
    form is refused: the process codes unsigned samples, and how a sender mapped negative ones to them is not known.
    """
    if form.is_signed:
        raise ValueError("JPEG Extended has no signed samples")
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(get_frame(pixel_data, 0, number_of_frames=1))
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = _pixel_data_element()
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    _describe(image, form, form.transfer_syntax_uid)
    image.SetDataElement(element)
    return _bytes(image.GetBuffer())


def _encode_jpeg_lossless(form: PixelForm, stored: bytes) -> bytes:
    """Encode process 14 of JPEG (PS3.5 A.4.1), for which pydicom knows no encoder."""
    # Every object has a name: GDCM ends the process when one is used after its owner went out of scope.
    writer = gdcm.ImageWriter()
    image = writer.GetImage()
    _describe(image, form, "1.2.840.10008.1.2")
    element = _pixel_data_element()
    element.SetByteStringValue(stored)
    image.SetDataElement(element)
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(_syntax(form.transfer_syntax_uid))
    change.SetInput(image)
    if not change.Change():
        raise ValueError("GDCM does not encode these pixels")
    output = change.GetOutput()
    output_element = output.GetDataElement()
    fragments = output_element.GetSequenceOfFragments()
    if fragments.GetNumberOfFragments() != 1:
        raise ValueError("GDCM cut the frame into several fragments")
    fragment = fragments.GetFragment(0)
    value = fragment.GetByteValue()
    return _bytes(value.GetBuffer())


def _describe(image: Any, form: PixelForm, transfer_syntax_uid: str) -> None:
    image.SetNumberOfDimensions(2)
    image.SetDimensions((form.columns, form.rows, 1))
    monochrome2 = gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2")
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(monochrome2))
    image.SetTransferSyntax(_syntax(transfer_syntax_uid))
    bits = 8 * BYTES_PER_PIXEL, form.bits_stored, form.bits_stored - 1
    image.SetPixelFormat(gdcm.PixelFormat(1, *bits, int(form.is_signed)))


def _syntax(uid: str) -> Any:
    return gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(uid))


def _pixel_data_element() -> Any:
    return gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))


def _bytes(text: str) -> bytes:
    """GDCM's bindings return bytes as text."""
    return text.encode("utf-8", "surrogateescape")


ENCODERS: Final[dict[str, Callable[[PixelForm, bytes], bytes]]] = {
    JPEGLossless: _encode_jpeg_lossless,
    JPEGLosslessSV1: _encode_jpeg_lossless,
    JPEGLSLossless: _encode_by_pydicom,
    JPEG2000Lossless: _encode_by_pydicom,
    RLELossless: _encode_by_pydicom,
}
"""The encoders, by transfer syntax; all are lossless."""
