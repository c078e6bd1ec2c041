"""Kinds of series by what their objects say and show: image types, units, numbers, pixels."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any, Final

import numpy as np
from factories import ROOT, ct_dataset, ct_series, soft_tissue
from kinds import cells, derived, each_slice, files, series, stopped, with_last, with_one, written
from pydicom.dataset import Dataset

SLOPE_OF_A_MAP: Final = 1e-5
SAGITTAL: Final = [0, 1, 0, 0, 0, -1]
TILTED: Final = [1, 0, 0, 0, 0.94, -0.342]
UNSIGNED: Final = np.maximum(soft_tissue(), 0).astype(np.uint16)


def typed(*values: str, **overrides: Any) -> Callable[[], list[bytes]]:
    """A series of this Image Type."""
    return lambda: series(ImageType=list(values), **overrides)


def numbered(*changes: dict[str, Any]) -> list[bytes]:
    """A slice for each change."""
    found = ct_series(len(changes))
    for dataset, change in zip(found, changes, strict=True):
        for keyword, value in change.items():
            setattr(dataset, keyword, value)
    return files(*found)


def moved(*positions: float) -> list[bytes]:
    """Slices at these positions of the table."""
    return numbered(*({"ImagePositionPatient": [-32, -32, each]} for each in positions))


def phases() -> list[bytes]:
    """Two positions, three phases of the heart at each."""
    return numbered(
        *(
            {
                "ImagePositionPatient": [-32, -32, n // 3],
                "NominalPercentageOfCardiacPhase": n % 3 * 30,
                "InstanceNumber": n,
            }
            for n in range(6)
        )
    )


def padded(value: int, vr: str, **overrides: Any) -> list[bytes]:
    """Corners that hold a padding value, which is declared."""

    def change(dataset: Any) -> None:
        stored = np.frombuffer(dataset.PixelData, "<i2").astype(int).reshape(64, 64)
        stored[:6, :6] = value
        dataset.PixelData = (stored & 0xFFFF).astype("<u2").tobytes()
        dataset.add_new("PixelPaddingValue", vr, value)

    return each_slice(change, **overrides)


def negative(dataset: Any) -> None:
    stored = np.frombuffer(dataset.PixelData, "<i2").astype(int) - 1024
    dataset.PixelData = (-stored).astype("<i2").tobytes()
    dataset.RescaleSlope, dataset.RescaleIntercept = -1, 0


def long_cells(dataset: Any) -> None:
    """32 bits allocated: programs of research that do not look."""
    dataset.PixelData = np.frombuffer(dataset.PixelData, "<i2").astype("<i4").tobytes()
    dataset.BitsAllocated = dataset.BitsStored = 32
    dataset.HighBit = 31


def of_floats(dataset: Any) -> None:
    del dataset.PixelData
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 32, 32, 31
    dataset.add_new("FloatPixelData", "OF", bytes(64 * 64 * 4))


def object_beside(sop_class: str, modality: str) -> list[bytes]:
    """Something else that has the Series Instance UID of the slices."""
    other = ct_dataset(SOPInstanceUID=f"{ROOT}.3.77", SOPClassUID=sop_class, Modality=modality)
    return [*series(), *files(other)]


def extended() -> list[bytes]:
    """An extended scale: slope 10, so that 16 bits hold the HU of any metal."""
    return cells(
        lambda stored: np.where(stored > 900, (stored - 1024) // 10, -100), RescaleSlope=10, RescaleIntercept=0
    )


def lut_beside(dataset: Dataset) -> None:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [4, 0, 16])
    item.add_new("LUTData", "US", [0, 1, 2, 3])
    item.ModalityLUTType = "US"
    dataset.ModalityLUTSequence = [item]


def overlay(dataset: Dataset) -> None:
    for number, vr, value in (
        *((0x10, "US", 64), (0x11, "US", 64), (0x40, "CS", "G"), (0x50, "SS", [1, 1]), (0x100, "US", 1)),
        *((0x102, "US", 0), (0x3000, "OW", bytes(512))),
    ):
        dataset.add_new(0x60000000 + number, vr, value)


def changed_later() -> list[bytes]:
    """A slice with another intercept under the same SOP Instance UID."""
    first, *others = ct_series(3)
    again = deepcopy(first)
    again.RescaleIntercept = -1000
    return files(first, *others, again)


CONTENT: Final = (
    stopped(
        "iodine",
        "iodine density, whose Rescale Type says HU",
        typed("DERIVED", "PRIMARY", "AXIAL", "MAT_SPECIFIC"),
        "material map",
    ),
    stopped("z_eff", "effective atomic numbers", lambda: series(RescaleType="Z_EFF"), "Rescale Type"),
    stopped(
        "density",
        "electron density in the words of a vendor",
        typed("DERIVED", "SECONDARY", "AXIAL", "ELECTRON DENSITY"),
        "material map",
    ),
    stopped("vnc", "virtual non-contrast", typed("DERIVED", "PRIMARY", "AXIAL", "CT_SOM7 DE VNC"), "material map"),
    derived(
        "monoenergetic",
        "a virtual monoenergetic image",
        typed("DERIVED", "PRIMARY", "AXIAL", "VMI", MultienergyCTAcquisition="YES"),
    ),
    derived(
        "mixed_energies", "the blended image of two energies", typed("ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM7 SPI DUAL")
    ),
    stopped("transit_time", "mean transit time", typed("DERIVED", "SECONDARY", "OTHER", "CT_SOM5 MTT"), "perfusion"),
    stopped(
        "map_by_description",
        "a map whose Series Description alone says so",
        typed("DERIVED", "SECONDARY", "AXIAL", SeriesDescription="CBF map", RescaleType=None),
        "description",
    ),
    stopped("difference", "a difference of two series", typed("DERIVED", "SECONDARY", "DIFFERENCE"), "calculated map"),
    stopped("rendering", "a volume rendering", typed("DERIVED", "SECONDARY", "VOLUME", "VRT"), "volume rendering"),
    stopped("optical_density", "Rescale Type OD", lambda: series(RescaleType="OD"), "Rescale Type"),
    stopped("modified", "Rescale Type HU_MOD", lambda: series(RescaleType="HU_MOD"), "Rescale Type"),
    derived("unspecified", "Rescale Type US", lambda: series(RescaleType="US")),
    derived("no_type", "no Rescale Type", lambda: series(RescaleType=None)),
    derived("empty_type", "an empty Rescale Type", lambda: series(RescaleType="")),
    stopped(
        "slope_of_a_map", "a slope of 0.00001", lambda: series(RescaleSlope=str(SLOPE_OF_A_MAP)), "absurd Rescale Slope"
    ),
    stopped(
        "far_slope", "two values of Rescale Slope", lambda: written(RescaleSlope=(b"1\\2 ", "DS")), "Rescale Slope"
    ),
    stopped(
        "no_number", "a Rescale Slope that is no number", lambda: written(RescaleSlope=(b"one ", "DS")), "Rescale Slope"
    ),
    stopped(
        "not_finite",
        "a Rescale Intercept that is not finite",
        lambda: written(RescaleIntercept=(b"-inf", "DS")),
        "Rescale Intercept",
    ),
    derived("negative_slope", "a Rescale Slope below 0", lambda: each_slice(negative)),
    derived("extended_scale", "the extended scale for metal", extended),
    derived(
        "reformat",
        "a coronal or sagittal reformat",
        typed("DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE", ImageOrientationPatient=SAGITTAL),
    ),
    derived(
        "reformat_beside",
        "a reformat under the UID of the slices",
        lambda: with_one(ImageType=["DERIVED", "SECONDARY", "MPR"], ImageOrientationPatient=SAGITTAL),
        4,
    ),
    derived("tilted", "a tilted gantry", lambda: series(ImageOrientationPatient=TILTED, GantryDetectorTilt="-20")),
    derived("fluoroscopy", "CT fluoroscopy: all slices at one position", lambda: moved(1, 1, 1)),
    derived("phases", "phases of the heart at the same positions", phases, 6),
    derived(
        "attenuation_correction",
        "the CT for attenuation correction of a PET/CT",
        lambda: series(SeriesDescription="AC CT", ImageType=["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"]),
    ),
    derived("kernels", "two kernels in one series", lambda: with_last(ConvolutionKernel="BONE")),
    derived("thicknesses", "two slice thicknesses in one series", lambda: with_last(SliceThickness=5)),
    derived("spacings", "two pixel spacings in one series", lambda: with_last(PixelSpacing=[0.5, 0.5])),
    derived("gaps", "slices missing", lambda: moved(1, 2, 9)),
    stopped("names", "two names of one Patient ID", lambda: with_last(PatientName="Other^Name"), "2 patients"),
    derived("modalities", "a slice that says it is MR", lambda: with_last(Modality="MR"), 2, "Modality is not CT"),
    derived("frame_in_some", "a frame of reference in some slices only", lambda: with_last(FrameOfReferenceUID="")),
    derived(
        "imager_spacing",
        "Imager Pixel Spacing in place of Pixel Spacing",
        lambda: series(PixelSpacing=None, ImagerPixelSpacing=[1, 1]),
    ),
    derived(
        "aspect_ratio",
        "Pixel Aspect Ratio in place of Pixel Spacing",
        lambda: series(PixelSpacing=None, PixelAspectRatio=[1, 1]),
    ),
    derived("no_orientation", "an orientation of zeros", lambda: series(ImageOrientationPatient=[0, 0, 0, 0, 0, 0])),
    derived("short_position", "a position of two numbers", lambda: written(ImagePositionPatient=(b"1\\2 ", "DS"))),
    derived(
        "commas",
        "commas in spacing and position",
        lambda: written(
            PixelSpacing=(b"0,5\\0,5 ", "DS"),
            ImagePositionPatient=(b"-32,5\\-32,5\\1,0", "DS"),
            SliceThickness=(b"1,25", "DS"),
        ),
    ),
    derived("number_as_text", "an Instance Number that is no number", lambda: written(InstanceNumber=(b"1A", "IS"))),
    derived(
        "number_of_fraction", "an Instance Number with a fraction", lambda: written(InstanceNumber=(b"1.5 ", "IS"))
    ),
    derived(
        "no_number_at_all",
        "no Instance Number and no Series Number",
        lambda: series(InstanceNumber=None, SeriesNumber=None),
    ),
    derived("large_number", "an Instance Number beyond 32 bits", lambda: written(InstanceNumber=(b"9999999999", "IS"))),
    derived("series_number", "a Series Number that is no number", lambda: written(SeriesNumber=(b"2/3 ", "IS"))),
    derived("thickness", "a Slice Thickness in words", lambda: written(SliceThickness=(b"1 mm", "DS"))),
    derived("kv", "a kV with its unit", lambda: written(KVP=(b"120 kV", "DS"))),
    derived("lowest_padding", "padding of -32768 in 16 signed bits", lambda: padded(-32768, "SS")),
    derived(
        "highest_padding",
        "padding of 65535 in 16 unsigned bits",
        lambda: padded(65535, "US", PixelRepresentation=0, pixels=UNSIGNED),
    ),
    derived("padding_twice", "a padding value of two numbers", lambda: series(PixelPaddingValue=[-2000, -2000])),
    derived("range_alone", "a padding range limit without its value", lambda: series(PixelPaddingRangeLimit=-2000)),
    stopped("long_cells", "32 bits allocated", lambda: each_slice(long_cells), "16 bits allocated"),
    stopped("floats", "Float Pixel Data", lambda: each_slice(of_floats), "Float Pixel Data", "refused"),
    stopped("sides", "Rows of 0", lambda: series(Rows=0), "Pixel Data", "refused"),
    stopped(
        "larger_than_said", "Rows that Pixel Data does not have", lambda: series(Rows=128), "Pixel Data has", "refused"
    ),
    derived("two_tables", "a Modality LUT beside Rescale", lambda: each_slice(lut_beside)),
    derived("overlay", "an overlay in an element of its own", lambda: each_slice(overlay)),
    stopped("annotated", "text burned into the slices", lambda: series(BurnedInAnnotation="YES"), "text burned in"),
    stopped("corrected", "two values of Rescale under one SOP Instance UID", changed_later, "Rescale Intercept"),
    derived(
        "pet_beside",
        "PET under the UID of the slices",
        lambda: object_beside("1.2.840.10008.5.1.4.1.1.128", "PT"),
        3,
        "left out",
    ),
    derived(
        "capture_beside",
        "a secondary capture under the UID of the slices",
        lambda: object_beside("1.2.840.10008.5.1.4.1.1.7", "OT"),
        3,
        "left out",
    ),
    stopped(
        "scout_of_words",
        "a scout in the words of a vendor",
        typed("DERIVED", "PRIMARY", "SCOUT", "OTHER"),
        "localizer",
        "ignored",
    ),
    stopped(
        "dose_page",
        "a page of doses",
        typed("DERIVED", "SECONDARY", "SCREEN SAVE", "DOSE", ImagePositionPatient=None, KVP=None),
        "screen",
        "ignored",
    ),
    derived("short_type", "an Image Type of two values", typed("DERIVED", "SECONDARY")),
    derived("bits_of_13", "13 bits stored", lambda: series(BitsStored=13, HighBit=12)),
    stopped(
        "sign_said_wrong",
        "signed values that are said to be unsigned",
        lambda: cells(lambda stored: stored - 1024, PixelRepresentation=0, RescaleIntercept=0),
        "Hounsfield",
    ),
)
