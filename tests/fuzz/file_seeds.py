"""Small, whole files of every kind that the node takes: what the fuzzing of files starts from."""

import base64
from collections.abc import Callable
from copy import deepcopy
from io import BytesIO
from typing import Any, Final

import numpy as np
from factories import ROOT, ct_dataset, file_meta_of, part10, soft_tissue
from multiframe import enhanced_ct, item, legacy_ct
from pydicom import dcmwrite
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.sequence import Sequence
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from iscl_node.dicom.reading.codec import PixelForm, encode

SIDE: Final = 16
JPEG_2000_SIDE: Final = 32
"""OpenJPEG compresses nothing smaller with its five resolutions."""

JPEG_EXTENDED: Final = base64.b64decode(
    b"/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAYEBQYFBAYGBQYHBwYIChAKCgkJChQODwwQFxQYGBcUFhYaHSUfGhsjHBYWICwgIyYnKSopGR8tMC"
    b"0oMCUoKSj/wQALDAAQABABAREA/8QAFgABAQEAAAAAAAAAAAAAAAAACAIK/8QAIxAAAgEEAgEFAQAAAAAAAAAAAwQCAQUGBwgJEwoREhQVJP/a"
    b"AAgBAQAAPwDL56crpB0xsXjTg3KbmDgl2yrIcicJdsTwy9mOG0CtEDrySecS8AiNFPNZkkBzKZI6TYZSGSs/aKM7uehrjnszj9svcHE7VkMB3v"
    b"jlmLeEsYwoZFbPklVoq+RX8gACxozJVY8VhoQW87Z/c1SfKpI16aLtb1Lsjh1q/jPvLaGO4vvrD5Rw/H7deC/RrkVpFJQFoiqTwCVq1/SNCCUS"
    b"FbL9CRq0nUk60UfeB2x6j4Pcb9pYphezcdZ5ZO2oqGL4jbWqvPWp441qDfdjEDAVagC7B4YXaQo3Beo4fKla1j///9k="
)
"""A frame of 16 x 16 pixels of 12 bits by DCMTK's dcmcjpeg +ee; nothing that is installed here compresses so."""


def single_frame(side: int = SIDE, **overrides: Any) -> FileDataset:
    """A CT Image with a noisy disc."""
    return ct_dataset(soft_tissue(side=side), **overrides)


def unsigned(bits: int, side: int = SIDE, **overrides: Any) -> FileDataset:
    """A CT Image of unsigned pixels."""
    form = {"BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": 0, **overrides}
    return ct_dataset(soft_tissue(side=side).clip(0).astype(np.uint16), **form)


def several_frames(count: int, side: int = SIDE) -> FileDataset:
    """An Enhanced CT Image."""
    return enhanced_ct(count, np.stack([soft_tissue(number, side) for number in range(count)]))


def native(dataset: FileDataset, syntax: UID) -> bytes:
    """The file of a data set in a native transfer syntax."""
    dataset.file_meta = file_meta_of(dataset, syntax)
    stream = BytesIO()
    is_implicit, is_little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    if not is_little:
        dataset["PixelData"].value = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    dcmwrite(stream, dataset, enforce_file_format=True, implicit_vr=is_implicit, little_endian=is_little)
    return stream.getvalue()


def compressed(dataset: FileDataset, syntax: UID, *, extended_offsets: bool = False) -> bytes:
    """The file of a data set whose frames are compressed by the node's own encoders."""
    copy = deepcopy(dataset)
    signed = bool(copy.PixelRepresentation)
    form = PixelForm(str(syntax), int(copy.Rows), int(copy.Columns), int(copy.BitsStored), signed)
    native_frames = [
        copy.PixelData[i : i + form.native_length] for i in range(0, len(copy.PixelData), form.native_length)
    ]
    frames = [encode(form, each) for each in native_frames]
    return _encapsulated(copy, syntax, frames, extended_offsets)


def lossy(dataset: FileDataset, syntax: UID, **options: Any) -> bytes:
    """The file of a data set that pydicom compresses with loss."""
    copy = deepcopy(dataset)
    copy.compress(syntax, generate_instance_uid=False, **options)
    return part10(copy)


def _encapsulated(dataset: FileDataset, syntax: UID, frames: list[bytes], extended_offsets: bool = False) -> bytes:
    if extended_offsets:
        pixel_data, dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = encapsulate_extended(frames)
    else:
        pixel_data = encapsulate(frames)
    dataset.add_new("PixelData", "OB", pixel_data)
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta = file_meta_of(dataset, syntax)
    return part10(dataset)


def _jpeg_extended() -> bytes:
    return _encapsulated(unsigned(12), JPEGExtended12Bit, [JPEG_EXTENDED])


def _of_everything(**overrides: Any) -> FileDataset:
    """An image with what is rare: private elements, nested sequences, odd VRs, an icon, an overlay."""
    dataset = single_frame(
        AnatomicRegionSequence=[
            item(CodeValue="1", CodingSchemeDesignator="SCT", CodeMeaning="a", AnatomicRegionModifierSequence=[item()])
        ],
        ReferencedSeriesSequence=[item(SeriesInstanceUID=f"{ROOT}.2", ReferencedInstanceSequence=[item()])],
        RequestAttributesSequence=[item(ScheduledProtocolCodeSequence=[item(CodeValue="2"), item(CodeValue="3")])],
        ContributingEquipmentSequence=[item(Manufacturer="Other", ManufacturerModelName="Box")],
        RealWorldValueMappingSequence=[
            item(MeasurementUnitsCodeSequence=[item(CodeValue="[hnsf'U]", CodingSchemeDesignator="UCUM")])
        ],
        DerivationDescription="made of raw data",
        LossyImageCompression="01",
        LossyImageCompressionRatio=[2.5],
        LossyImageCompressionMethod="ISO_15444_1",
        TimezoneOffsetFromUTC="+0100",
        PixelPaddingValue=-2000,
        PixelPaddingRangeLimit=-1990,
        SmallestImagePixelValue=-50,
        IconImageSequence=[item(Rows=2, Columns=2, BitsAllocated=8, PixelRepresentation=0, PixelData=b"\0\1\2\3")],
        AcquisitionDateTime="20240101101600.5+0100",
        ExposureTimeInms=1.5,
        **overrides,
    )
    for tag, vr, value in ((0x60000010, "US", 8), (0x60000011, "US", 8), (0x60003000, "OW", b"\1" * 8)):
        dataset.add_new(tag, vr, value)
    block = dataset.private_block(0x0043, "GEMS_PARM_01", create=True)
    block.add_new(0x27, "SH", "0.531:1")
    block.add_new(0x30, "UN", b"\1\2\3\4")
    block.add_new(0x31, "SQ", Sequence([item(PatientComments="hidden")]))
    dataset["RequestAttributesSequence"].is_undefined_length = True
    return dataset


SEEDS: Final[dict[str, Callable[[], bytes]]] = {
    "explicit": lambda: part10(single_frame()),
    "64 x 64": lambda: part10(single_frame(64)),
    "implicit": lambda: native(single_frame(), ImplicitVRLittleEndian),
    "big endian": lambda: native(single_frame(), ExplicitVRBigEndian),
    "deflated": lambda: native(single_frame(), DeflatedExplicitVRLittleEndian),
    "unsigned 12 bit": lambda: part10(unsigned(12)),
    "not square": lambda: part10(ct_dataset(soft_tissue(side=24)[:10])),
    "fractional rescale": lambda: part10(unsigned(16, RescaleSlope="0.5", RescaleIntercept="-1024.25")),
    "padding": lambda: part10(single_frame(PixelPaddingValue=24, PixelPaddingRangeLimit=30)),
    "of everything": lambda: part10(_of_everything()),
    "of everything, implicit": lambda: native(_of_everything(), ImplicitVRLittleEndian),
    "of everything, big endian": lambda: native(_of_everything(), ExplicitVRBigEndian),
    "of everything, deflated": lambda: native(_of_everything(), DeflatedExplicitVRLittleEndian),
    "Japanese": lambda: part10(
        single_frame(
            SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName="Yamada^Tarou=山田^太郎", SeriesDescription="胸部"
        )
    ),
    "Chinese": lambda: part10(
        single_frame(SpecificCharacterSet="GB18030", PatientName="王^小东", StudyDescription="肺")
    ),
    "Unicode": lambda: part10(single_frame(SpecificCharacterSet="ISO_IR 192", SeriesDescription="Brustkorb ä" * 5)),
    "RLE": lambda: compressed(single_frame(), RLELossless),
    "JPEG Lossless": lambda: compressed(unsigned(16), JPEGLossless),
    "JPEG Lossless SV1": lambda: compressed(single_frame(), JPEGLosslessSV1),
    "JPEG-LS": lambda: compressed(unsigned(12), JPEGLSLossless),
    "JPEG-LS near": lambda: lossy(unsigned(12), JPEGLSNearLossless, jls_error=2),
    "JPEG 2000": lambda: compressed(single_frame(JPEG_2000_SIDE), JPEG2000Lossless),
    "JPEG 2000 lossy": lambda: lossy(unsigned(12, JPEG_2000_SIDE), JPEG2000, j2k_cr=[4]),
    "JPEG Extended": _jpeg_extended,
    "Enhanced": lambda: part10(several_frames(3)),
    "Enhanced, implicit": lambda: native(several_frames(2), ImplicitVRLittleEndian),
    "Enhanced, RLE": lambda: compressed(several_frames(2), RLELossless),
    "Enhanced, JPEG 2000, extended offsets": lambda: compressed(
        several_frames(2, JPEG_2000_SIDE), JPEG2000Lossless, extended_offsets=True
    ),
    "Legacy Converted": lambda: part10(legacy_ct(2)),
}
"""How each is made."""


def seeds() -> dict[str, bytes]:
    """All seeds, each with its name."""
    return {name: make() for name, make in SEEDS.items()}
