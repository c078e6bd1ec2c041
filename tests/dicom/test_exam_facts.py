"""What is told of an examination: scanner, protocol, noise, dose and the body's size."""

import numpy as np
import pytest
from factories import ct_dataset
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from iscl_node.dicom.judging.body_size import water_equivalent_diameter_mm
from iscl_node.dicom.judging.exam_facts import exam_facts, size_specific_dose_mgy
from iscl_node.dicom.reading.volume import Slice


def cylinder(hu: float, radius: int = 60, side: int = 256) -> Slice:
    y, x = np.mgrid[:side, :side] - side // 2
    image = np.full((side, side), -1000, np.float32)
    image[y**2 + x**2 <= radius**2] = hu
    return image


def phantom(code: str) -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = code, "DCM"
    return Sequence([item])


def test_water_attenuates_like_water() -> None:
    assert water_equivalent_diameter_mm(cylinder(0), 2.0**2) == pytest.approx(240, rel=0.02)


def test_lungs_and_bone_count_by_their_attenuation() -> None:
    hollow = cylinder(0)
    y, x = np.mgrid[:256, :256] - 128
    hollow[y**2 + x**2 <= 30**2] = -1000  # a quarter of the area is air
    assert water_equivalent_diameter_mm(hollow, 1.0) == pytest.approx(120 * np.sqrt(0.75), rel=0.02)
    assert water_equivalent_diameter_mm(cylinder(210), 1.0) == pytest.approx(132, rel=0.02)


@pytest.mark.parametrize(
    ("phantom_mm", "diameter_mm", "factor"),
    [(320, 200, 1.78), (320, 300, 1.23), (320, 400, 0.85), (160, 160, 1.01), (160, 100, 1.27)],
)
def test_the_dose_for_the_size_is_that_of_the_report(phantom_mm: int, diameter_mm: float, factor: float) -> None:
    """Conversion factors of AAPM Report 204, tables 1D and 2D."""
    assert size_specific_dose_mgy(10.0, phantom_mm, diameter_mm) == pytest.approx(10 * factor, abs=0.06)


def test_what_the_header_tells_is_told() -> None:
    told = ct_dataset(
        Manufacturer="Maker", ManufacturerModelName="Model", StationName="CT1", BodyPartExamined="CHEST",
        ConvolutionKernel="B30f", KVP=120, CTDIvol=8.0, CTDIPhantomTypeCodeSequence=phantom("113691"),
        PixelSpacing=[2.0, 2.0],
    )  # fmt: skip
    facts = exam_facts([(cylinder(0), told), (cylinder(0), told)], 12.5)
    assert (facts.scanner, facts.station, facts.body_part, facts.kernel, facts.kv) == (
        *("Maker Model", "CT1", "CHEST", "B30f"),
        120,
    )
    assert (facts.noise_hu, facts.ctdivol_mgy, facts.phantom_mm) == (12.5, 8.0, 320)
    assert facts.diameter_mm == pytest.approx(240, rel=0.02)
    assert facts.size_specific_dose_mgy == pytest.approx(8 * 1.53, rel=0.02)


def test_what_is_not_told_or_is_nonsense_stays_open() -> None:
    bare = Dataset()
    facts = exam_facts([(np.full((8, 8), -1000, np.float32), bare)], None)
    assert (facts.scanner, facts.body_part, facts.kv, facts.size_specific_dose_mgy) == ("unknown", "", None, None)
    odd = ct_dataset(CTDIvol=-3.0, CTDIPhantomTypeCodeSequence=phantom("0815"), ConvolutionKernel="a\x07b" + "x" * 90)
    odd.BodyPartExamined = "Anna's left knee"
    facts = exam_facts([(cylinder(0), odd)], None)
    assert (facts.ctdivol_mgy, facts.phantom_mm, facts.body_part) == (None, None, "OTHER")
    assert facts.kernel == "a b" + "x" * 61
