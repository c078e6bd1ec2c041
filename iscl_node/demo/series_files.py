"""The demonstration's series on disk: written from a head CT, and read back as volumes."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from iscl_node.demo.failure import DemoError
from iscl_node.demo.head_ct import HeadCt
from iscl_node.dicom.copies.new_series import NewSeries, new_series
from iscl_node.dicom.deriving.derived import encode
from iscl_node.dicom.reading.folder import read_folder
from iscl_node.dicom.reading.header import read_header
from iscl_node.dicom.reading.volume import to_hu

Volume = npt.NDArray[np.float32]


def write_normal_dose(head: HeadCt, folder: Path) -> None:
    """Write the head CT as a DICOM series of the patient ``DEMO^HEAD``."""
    folder.mkdir(parents=True)
    description = "Head CT, normal dose"
    series = NewSeries(head.volume_hu, head.spacing_mm, "DEMO^HEAD", "DEMO", "HEAD", description)
    for instance in new_series(series):
        path = folder / f"{instance.SOPInstanceUID}.dcm"
        path.write_bytes(encode(instance))


def series_uid(path: Path) -> str:
    """Series Instance UID of a file."""
    return read_header(path.read_bytes()).series_instance_uid


def read_volume(folder: Path) -> Volume:
    """Read the one axial series below a folder, in the order of the slices' positions.

    Returns
    -------
    float32 array, shape (S, H, W)
        Hounsfield units.

    Raises
    ------
    DemoError
        If there is not exactly one series.
    """
    series = read_folder(folder).series
    if len(series) != 1:
        raise DemoError(f"{folder} holds {len(series)} series instead of one")
    (instances,) = series.values()
    instances.sort(key=lambda instance: float(instance.ImagePositionPatient[2]))
    return np.stack([to_hu(instance) for instance in instances])
