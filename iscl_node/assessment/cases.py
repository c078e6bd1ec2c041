"""Which slices are measured, and what is known of each before any denoiser has seen it."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from iscl_node.assessment.methods import FloatImage, non_local_means
from iscl_node.dicom.copies.simulated import projectable_spacing_mm
from iscl_node.dicom.judging.body_size import effective_diameter_mm
from iscl_node.dicom.reading.folder import Instance, read_folder, read_instance
from iscl_node.dicom.reading.volume import to_hu
from iscl_node.errors import ConfigurationError, IsclNodeError
from iscl_node.simulation.low_dose import low_dose_noise
from iscl_node.simulation.series import slice_generator
from monai_bundle.scripts.evaluation.ceiling import Ceiling, ceiling
from monai_bundle.scripts.evaluation.image_quality import uniform_tissue
from monai_bundle.scripts.evaluation.noise_power import FEWEST_SQUARES, find_squares
from monai_bundle.scripts.evaluation.task_transfer import Edges, find_edges

Mask = npt.NDArray[np.bool_]
Use = Literal["test", "validation", "phantoms", "low_dose"]

WINDOW: Final = (-160.0, 240.0)
"""HU; PSNR, SSIM and edges are measured in it."""
BINS: Final = (-1050, -900, -700, -200, -160, -120, -80, -40, 0, 40, 80, 120, 160, 200, 240, 300, 400, 600, 1200)
"""Ends of the bins of HU in which the bias is measured."""
FEWEST_PIXELS: Final = 300
DEEPEST_MM: Final = 1000
DEPTHS_MM: Final = (0, 30, 80, DEEPEST_MM)
"""Ends of the layers of the body in which noise is measured."""
STEEPEST: Final = 25.0
"""HU per pixel; a bin holds nothing steeper."""
SQUARE_SIDES: Final = (24, 16)
LEAST_HU: Final = -1024.0
"""Padding counts as air."""


@dataclass(frozen=True)
class Case:
    """A slice that counts as the normal dose.

    Attributes
    ----------
    patient, name, kernel : str
        Which it is, and how it was reconstructed.
    thickness_mm, spacing_mm : float
        Of the slice, and between pixels.
    tube_current_ma : float
        As the header has it.
    hu : float32 array, shape (H, W)
        HU.
    """

    patient: str
    name: str
    kernel: str
    thickness_mm: float
    spacing_mm: float
    tube_current_ma: float
    hu: FloatImage

    @cached_property
    def body_mm(self) -> float | None:
        """The body's effective diameter, mm; None where it is not whole in the picture."""
        return effective_diameter_mm(self.hu, self.spacing_mm**2)

    @property
    def slice_mm(self) -> float | None:
        """The thickness, mm; None where the header has none."""
        return self.thickness_mm if self.thickness_mm > 0 else None

    @cached_property
    def tissue(self) -> Mask:
        """Uniform soft tissue."""
        return np.asarray(uniform_tissue(self.hu), bool)

    @cached_property
    def body(self) -> Mask:
        """Everything but the air around, the table, and the lungs."""
        solid = ndimage.binary_opening(ndimage.gaussian_filter(self.hu, 2) > -300, iterations=3)
        return np.asarray(ndimage.binary_erosion(solid, iterations=3), bool)

    @cached_property
    def depths(self) -> dict[str, Mask]:
        """The body by its depth below the skin."""
        inside = ndimage.binary_fill_holes(ndimage.gaussian_filter(self.hu, 2) > -300)
        depth_mm = ndimage.distance_transform_edt(inside) * self.spacing_mm
        return {
            f"{low} to {high} mm deep" if high < DEEPEST_MM else f"from {low} mm": self.body
            & (depth_mm >= low)
            & (depth_mm < high)
            for low, high in pairwise(DEPTHS_MM)
        }

    @cached_property
    def squares(self) -> Sequence[tuple[slice, slice]]:
        """Where noise power is measured; small ones where no large ones are found, empty where too few are."""
        found = (find_squares(self.hu, side) for side in SQUARE_SIDES)
        return next((squares for squares in found if len(squares) >= FEWEST_SQUARES), [])

    @cached_property
    def edges(self) -> Edges:
        """Where the transfer at edges is measured."""
        return find_edges(self.hu, WINDOW)

    @cached_property
    def bins(self) -> dict[tuple[int, int], Mask]:
        """Pixels by HU of a cleaned reference: chosen by its own noise, they would show a bias that is none."""
        tissue = self.tissue if self.tissue.sum() >= FEWEST_PIXELS else self.body
        noise = float((self.hu - ndimage.gaussian_filter(self.hu, 2))[tissue].std())
        clean = ndimage.gaussian_filter(non_local_means(self.hu, 1.2 * noise), 1)
        flat = ndimage.gaussian_gradient_magnitude(clean, 2) < STEEPEST
        found = {(low, high): (clean >= low) & (clean < high) & flat for low, high in pairwise(BINS)}
        return {ends: region for ends, region in found.items() if region.sum() >= FEWEST_PIXELS}


@dataclass(frozen=True)
class LowDose:
    """A case at a lower dose, in several draws of the noise.

    Attributes
    ----------
    case : Case
        The normal dose.
    dose : float
        Fraction of it.
    noises : tuple of float32 array, shape (H, W)
        What was added, HU.
    """

    case: Case
    dose: float
    noises: tuple[FloatImage, ...]

    @cached_property
    def images(self) -> tuple[FloatImage, ...]:
        """The slice in every draw, HU."""
        return tuple((self.case.hu + noise).astype(np.float32) for noise in self.noises)

    @cached_property
    def ceiling(self) -> Ceiling | None:
        """What any denoiser could gain; None without enough uniform tissue."""
        if not self.case.squares:
            return None
        added = np.stack([noise[each] for noise in self.noises for each in self.case.squares])
        return ceiling(np.stack([self.case.hu[each] for each in self.case.squares]), added)


def at_dose(case: Case, dose: float, draws: int) -> LowDose:
    """Simulate so many draws of a lower dose; the same whenever it is asked."""
    keys = (f"{case.patient}/{case.name}/{dose}/{draw}" for draw in range(draws))
    noises = (low_dose_noise(case.hu, case.spacing_mm, dose, slice_generator(0, key)) for key in keys)
    return LowDose(case, dose, tuple(noises))


def patients_for(bundle: Path, use: Use) -> frozenset[str]:
    """The patients that may be used for it, as ``configs/splits/quality.json`` of a bundle says."""
    return frozenset(json.loads((bundle / "configs" / "splits" / "quality.json").read_text())[use])


def find_cases(data: Path, patients: Collection[str], slices: int) -> Iterator[Case]:
    """Slices of the patients that lie below a folder, spread over each patient, folder and kernel.

    Parameters
    ----------
    data : Path
        Folder of DICOM files.
    patients : collection of str
        Patient IDs, or names of the folders that hold them; empty for everybody.
    slices : int
        At most so many of each patient, folder and kernel.

    Raises
    ------
    ConfigurationError
        If there is none, or no folder.
    """
    if not data.is_dir():
        raise ConfigurationError(f"{data} is not a folder")
    groups: dict[tuple[str, str, str], list[Path]] = {}
    for series in read_folder(data).series.values():
        for instance in series:
            path = Path(str(instance.filename))
            names = {str(instance.get("PatientID", "")), *path.relative_to(data).parts}
            patient = next(iter(names & set(patients)), "") if patients else str(instance.get("PatientID", ""))
            if patient:
                kernel = str(instance.get("ConvolutionKernel", ""))
                groups.setdefault((patient, path.parent.name, kernel), []).append(path)
    cases = [case for group, paths in sorted(groups.items()) for case in _spread(*group, sorted(paths), slices)]
    if not cases:
        raise ConfigurationError(f"{data} holds no usable slice of {', '.join(sorted(patients)) or 'anybody'}")
    return iter(cases)


def _spread(patient: str, folder: str, kernel: str, paths: Sequence[Path], slices: int) -> Iterator[Case]:
    count = min(slices, len(paths))
    for number in range(count):
        path = paths[(2 * number + 1) * len(paths) // (2 * count)]
        try:
            yield read_case(patient, kernel, read_instance(path), f"{folder}/{path.stem}")
        except IsclNodeError:
            continue


def read_case(patient: str, kernel: str, instance: Instance, name: str) -> Case:
    """One slice."""
    spacing = projectable_spacing_mm(instance)
    hu = np.maximum(to_hu(instance), np.float32(LEAST_HU))
    thickness, current = (float(instance.get(key) or np.nan) for key in ("SliceThickness", "XRayTubeCurrent"))
    return Case(patient, name, kernel, thickness, spacing, current, hu)
