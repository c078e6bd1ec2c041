"""Every real CT Image on this machine becomes a derived one, or is refused for what is really wrong with it.

The data lie beside the repository, in pydicom, pydicom-data and pynetdicom; further folders, such as unpacked source
packages of GDCM and DCMTK, are named in ISCL_NODE_CORPUS, parted by colons. What is not there is skipped.
"""

import os
import re
from pathlib import Path

import pynetdicom
import pytest
from pydicom.data.data_manager import external_data_sources
from real_ct import PYDICOM_FILES, SHARED_DATA

from iscl_node.denoise.bundle_digest import bundle_identity
from iscl_node.dicom.reading.folder import SkippedFile
from iscl_node.domain import CT_IMAGE_STORAGE, Rule
from iscl_node.making.explanation import SeriesExplanation, explain
from iscl_node.settings import QualitySettings

RULE = Rule("CT", {"Modality": "CT"}, "full", (1.0,), " ISCL", ("pacs",))

FOLDERS = (
    *(SHARED_DATA / name for name in ("head_gantry_tilt", "chest_abdomen", "tcia")),
    PYDICOM_FILES,
    *(Path(each.data_path) for each in external_data_sources().values()),
    Path(pynetdicom.__file__).parent / "tests" / "dicom_files",
    *(Path(each) for each in os.environ.get("ISCL_NODE_CORPUS", "").split(":") if each),
)

OF_NO_CT = re.compile(r"the node does not receive .+")
KNOWN = (
    r"two images have the same SOP Instance UID, but differ in Bits Stored and High Bit",  # 693_J2KR, 693_UNCR
    r"1 of 1 instances: it is in color",  # eCT_Supplemental: Pixel Presentation is COLOR
    r"the noise of neighbouring pixels correlates by -?0\.0\d\d, as with a sharper kernel .+",  # B60f, BONE in tcia
    r"2 of 2 instances: it is a localizer",  # a scout of pydicom's DICOMDIR
)
"""Reasons for CT that were compared with the files by eye."""

SKIPPED = (
    "not a DICOM file",
    "the directory of a medium, not an instance",
    "Pixel Data is missing",  # headers of pydicom's DICOMDIR
    r"\w+UID is missing or is not a UID",  # files of one element
    "the stream ends inside an element",  # *_truncated, *_too_short
    "NumberOfFrames is not one whole number",  # badVR
    "Pixel Data is written as OB or OW",  # SC_rgb_jpeg
)


@pytest.mark.long
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_real_ct_is_taken_or_refused_for_what_is_wrong(folder: Path, identity_bundle: Path) -> None:
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    series, skipped = explain(folder, [RULE], bundle_identity(identity_bundle), "0", QualitySettings().limits())
    assert [each for each in series if not is_known(each)] == []
    assert [each for each in skipped if not is_rightly_skipped(each)] == []
    assert any(each.outcome == "derived" for each in series) or not has_ct(folder)


def is_known(each: SeriesExplanation) -> bool:
    known = each.outcome == "derived" or any(re.fullmatch(reason, each.reason) for reason in KNOWN)
    return known or OF_NO_CT.fullmatch(each.reason) is not None


def is_rightly_skipped(file: SkippedFile) -> bool:
    return any(re.fullmatch(reason, file.reason) for reason in SKIPPED)


def has_ct(folder: Path) -> bool:
    return any(CT_IMAGE_STORAGE.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())
