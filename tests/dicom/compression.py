"""Compressed copies of instances, for tests: by DCMTK and by pydicom, apart from the code under test where possible."""

import subprocess
from copy import deepcopy
from pathlib import Path
from shutil import which

import pytest
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import (
    UID,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

DCMTK = {
    JPEGLossless: ("dcmcjpeg", "+el"),
    JPEGLosslessSV1: ("dcmcjpeg", "+e1"),
    JPEGLSLossless: ("dcmcjpls", "+el"),
    RLELossless: ("dcmcrle",),
}
"""DCMTK's programs, by transfer syntax; all keep the stored values."""


def compressed(dataset: FileDataset, syntax: UID, **options: object) -> FileDataset:
    """Compress with pydicom; the SOP Instance UID stays."""
    copy = deepcopy(dataset)
    copy.compress(syntax, generate_instance_uid=False, **options)
    return copy


def by_dcmtk(dataset: FileDataset, folder: Path, program: str, *options: str) -> FileDataset:
    """Have a program of DCMTK make another file of an instance."""
    if which(program) is None:
        pytest.skip(f"{program} is not installed (Debian package dcmtk)")
    before, after = folder / "before.dcm", folder / "after.dcm"
    dataset.save_as(before, enforce_file_format=True)
    subprocess.run([program, *options, before, after], check=True, capture_output=True)
    return dcmread(after)
