"""What a model was not made for is named by the header and the noise, and the rule decides what becomes of it."""

from dataclasses import replace

import numpy as np
import pytest
from factories import ct_dataset
from pydicom.dataset import Dataset

from iscl_node.dicom.judging.series import SeriesNoise
from iscl_node.dicom.judging.suitability import CHILD, ITERATIVE, LOSSY, NOISIER, PIXELS, cautions
from iscl_node.domain import ModelIdentity, Rule, Site
from iscl_node.domain.strength import MOST_OF_SHARP, SHARP_KERNEL, AutoStrength, ChosenStrength, chosen_strength
from iscl_node.errors import IgnoreSeriesError, QuarantineSeriesError
from iscl_node.making.products import check_suited, derivations

SOFT = SeriesNoise(20.0, 0.4)
PIXEL = np.zeros((1, 1), np.int16)


def header(**attributes: object) -> Dataset:
    return ct_dataset(PIXEL, **{"PixelSpacing": [0.7, 0.7], **attributes})


@pytest.mark.parametrize(
    "kernel", ["STANDARD", "SOFT", "B20f", "B31s", "B40f", "Br44d", "Hr38", "FC08", "B", "59.10.AB50", "DETAIL", ""]
)
def test_soft_kernels_are_what_the_model_was_made_for(kernel: str) -> None:
    assert cautions([header(ConvolutionKernel=kernel)], SOFT, 300) == ()


@pytest.mark.parametrize("kernel", ["BONE", "LUNG", "B70f", "B50f", "Br64d", "Bl57", "U70u", "L", "YC", "FC81", "FC52"])
def test_sharp_kernels_are_named(kernel: str) -> None:
    assert cautions([header(ConvolutionKernel=kernel)], SOFT, 300) == (SHARP_KERNEL,)


@pytest.mark.parametrize(
    "attributes",
    [
        {"ConvolutionKernel": ["I31f", "3"]},
        {"ConvolutionKernel": ["Br40d", "3"]},
        {"SeriesDescription": "Abdomen iDose4 (3)"},
        {"ProtocolName": "Thorax ASiR-V 40%"},
        {"FilterType": "AIDR 3D"},
        {"ReconstructionAlgorithm": "ITERATIVE"},
    ],
)
def test_iterative_reconstruction_is_named(attributes: dict[str, object]) -> None:
    assert cautions([header(**attributes)], SOFT, 300) == (ITERATIVE,)


@pytest.mark.parametrize(
    ("vr", "level", "named"), [("SH", "50", True), ("UN", b"30", True), ("SH", "", False), ("SH", "0", False)]
)
def test_iterative_reconstruction_of_ge_is_named_by_its_private_element(vr: str, level: object, named: bool) -> None:
    source = header(ConvolutionKernel="STANDARD")
    source.private_block(0x0053, "GEHC_CT_ADVAPP_001", create=True).add_new(0x43, vr, level)
    assert cautions([source], SOFT, 300) == ((ITERATIVE,) if named else ())


@pytest.mark.parametrize(
    ("attributes", "noise", "body_mm", "named"),
    [
        ({"PatientAge": "004Y"}, SOFT, 300, CHILD),
        ({"PatientAge": "011M"}, SOFT, None, CHILD),
        ({}, SOFT, 120, CHILD),
        ({"PixelSpacing": [0.25, 0.25]}, SOFT, 300, PIXELS),
        ({"LossyImageCompression": "01"}, SOFT, 300, LOSSY),
        ({}, SeriesNoise(120.0, 0.4), 300, NOISIER),
        ({}, SeriesNoise(50.0, 0.08), 300, SHARP_KERNEL),
    ],
)
def test_what_else_is_named(attributes: dict[str, object], noise: SeriesNoise, body_mm: float, named: str) -> None:
    assert cautions([header(**attributes)], noise, body_mm) == (named,)


@pytest.mark.parametrize("age", ["045Y", "016Y", "", "old"])
@pytest.mark.filterwarnings("ignore:Invalid value for VR AS")
def test_an_adult_or_an_age_that_cannot_be_read_is_no_child(age: str) -> None:
    assert cautions([header(PatientAge=age)], SOFT, 200) == ()


def test_of_a_sharp_kernel_at_most_half_is_taken_by_itself() -> None:
    assert chosen_strength(AutoStrength(10), 60.0).value > MOST_OF_SHARP
    assert chosen_strength(AutoStrength(10), 60.0, None, (SHARP_KERNEL,)).value == MOST_OF_SHARP
    assert chosen_strength(0.8, 60.0, None, (SHARP_KERNEL,)).value == 0.8  # a person's number holds


RULE = Rule("all", {}, "full", (AutoStrength(),), " ISCL", ("pacs",))
SHARP = (ChosenStrength(0.5, 10.0, 50.0, None, (SHARP_KERNEL, ITERATIVE)),)


@pytest.mark.parametrize(("unsuited", "raised"), [("ignore", IgnoreSeriesError), ("quarantine", QuarantineSeriesError)])
@pytest.mark.fault("processing", "the model was not made for the series", "warned of, ignored or set aside")
def test_a_rule_may_turn_down_what_the_model_was_not_made_for(unsuited: str, raised: type[Exception]) -> None:
    rule = replace(RULE, unsuited=unsuited)
    with pytest.raises(raised, match=r"rule 'all': .*: sharp kernel, iterative reconstruction \(unsuited"):
        check_suited(SHARP, rule)
    check_suited((ChosenStrength(0.5),), rule)
    check_suited((), rule)


def test_by_default_a_warning_is_in_what_is_derived() -> None:
    check_suited(SHARP, RULE)
    (derivation,) = derivations(ModelIdentity("m", "1", "0" * 64), "full", SHARP, " ISCL", "0", Site())
    assert derivation.chosen_strength.text.endswith(
        "; not what the model was made for: sharp kernel, iterative reconstruction"
    )
