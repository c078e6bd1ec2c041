"""Folders in, folders out: the same denoising and simulation as in the node, without network and spool."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from iscl_node import __version__
from iscl_node.denoise.bundle_denoiser import BundleDenoiser, load_bundle
from iscl_node.dicom.copies.simulated import Simulation, projectable_spacing_mm, simulated
from iscl_node.dicom.deriving.derived import encode
from iscl_node.dicom.judging.content import check_content
from iscl_node.dicom.reading.folder import Instance, SkippedFile, read_folder, read_instance
from iscl_node.dicom.reading.frames import is_multiframe
from iscl_node.dicom.reading.volume import to_hu
from iscl_node.dicom.selecting.rules import check_strengths
from iscl_node.dicom.selecting.series import select_series
from iscl_node.domain import NO_EVIDENCE, EvidenceChoice, OutputSyntax, QualityLimits, Site
from iscl_node.domain.strength import StrengthChoice
from iscl_node.errors import ConfigurationError, IgnoreSeriesError, QuarantineSeriesError
from iscl_node.making.evidence import evidence
from iscl_node.making.products import Products, checked_strengths, derivations
from iscl_node.making.read_back import read_back
from iscl_node.settings import QualitySettings
from iscl_node.settings.derived import DerivedSettings
from iscl_node.simulation.low_dose import Scanner
from iscl_node.simulation.series import Slice, low_dose_series


@dataclass(frozen=True)
class WrittenInstance:
    """One instance written."""

    sop_instance_uid: str


@dataclass(frozen=True)
class FinishedSeries:
    """A series of which everything that was made is in the target folder."""

    instances: int


@dataclass(frozen=True)
class RefusedSeries:
    """A series of which nothing is left in the target folder, and why."""

    series_instance_uid: str
    reason: str


@dataclass(frozen=True)
class IgnoredSeries:
    """A series of which nothing is to be made, and why; no action is needed."""

    series_instance_uid: str
    reason: str


@dataclass(frozen=True)
class Note:
    """What was left out of a series."""

    series_instance_uid: str
    text: str


@dataclass(frozen=True)
class ExpectedInstances:
    """So many more instances are to be written than was said before, or fewer."""

    change: int


Outcome = ExpectedInstances | WrittenInstance | FinishedSeries | RefusedSeries | IgnoredSeries | Note | SkippedFile

Make = Callable[[Sequence[Instance], Path], Iterator[Instance]]
"""From the instances of a series to the new ones; in the folder are those that were made so far."""


@dataclass(frozen=True)
class Denoising:
    """What ``iscl-node denoise`` is asked for; see :func:`denoise_folder`."""

    bundle: Path
    profile: str
    strengths: tuple[StrengthChoice, ...]
    suffix: str
    device: str
    transfer_syntax: OutputSyntax = "explicit"
    evidence: EvidenceChoice = NO_EVIDENCE
    limits: QualityLimits = field(default_factory=lambda: QualitySettings().limits())
    site: Site = field(default_factory=lambda: DerivedSettings().site(ae_title=""))


def denoise_folder(source: Path, target: Path, denoising: Denoising) -> Iterator[Outcome]:
    """Denoise every CT series below ``source`` into ``target/<derived series UID>/``, one for each strength.

    Raises
    ------
    ConfigurationError
        If there is nothing to read, the target would mix with the source, or the bundle cannot be used.
    """
    _check_folders(source, target)
    check_strengths(denoising.strengths)
    denoiser = load_bundle(denoising.bundle, denoising.profile, denoising.device, precision="auto")
    started = datetime.now().astimezone()

    def derived(instances: Sequence[Instance], folder: Path) -> Iterator[Instance]:
        if any(denoising.strengths):
            check_content(list(map(_afresh, instances)), denoising.profile, denoiser.window_hu)
        products = _products(denoiser, denoising, instances)
        for instance in instances:
            yield from products.made_of(_afresh(instance), started)
        sources = [Path(str(instance.filename)) for instance in instances]
        for series in read_back(sources, folder, products.derivations, denoising.evidence):
            yield from evidence(series, started, denoising.evidence)

    yield from _each_series(source, target, derived, len(denoising.strengths))


def _products(denoiser: BundleDenoiser, denoising: Denoising, instances: Sequence[Instance]) -> Products:
    strengths = checked_strengths(denoising.strengths, list(map(_afresh, instances)), denoising.limits)
    made = derivations(denoiser.model, denoising.profile, strengths, denoising.suffix, __version__, denoising.site)
    return Products(denoiser, made, denoising.limits, denoising.transfer_syntax)


def simulate_folder(source: Path, target: Path, dose: float, seed: int, workers: int) -> Iterator[Outcome]:
    """Write a low-dose copy of every CT series below ``source`` into ``target/<new series UID>/``.

    Parameters
    ----------
    source, target : Path
        Folders of DICOM files.
    dose : float
        Fraction of the source's dose, above 0 and at most 1.
    seed : int
        Seed of the noise.
    workers : int
        Processes.

    Raises
    ------
    ConfigurationError
        If there is nothing to read or the target would mix with the source.
    """
    _check_folders(source, target)
    scanner = Scanner()
    simulation = Simulation(dose, seed, scanner.description)
    now = datetime.now().astimezone()

    def copies(instances: Sequence[Instance], _: Path) -> Iterator[Instance]:
        if any(map(is_multiframe, instances)):
            raise QuarantineSeriesError("a low dose is simulated of CT Image Storage only, not of Enhanced CT")
        slices = (Slice(str(i.SOPInstanceUID), to_hu(_afresh(i)), projectable_spacing_mm(i)) for i in instances)
        for instance, low in zip(instances, low_dose_series(slices, dose, seed, scanner, workers), strict=True):
            yield simulated(_afresh(instance), low, simulation, now)

    yield from _each_series(source, target, copies)


def _each_series(source: Path, target: Path, make: Make, copies: int = 1) -> Iterator[Outcome]:
    content = read_folder(source)
    if not (content.series or content.skipped or content.illegible):
        raise ConfigurationError(f"{source} holds no DICOM instances")
    yield from content.skipped
    yield from (RefusedSeries(each.series_instance_uid, each.reason) for each in content.illegible)
    yield ExpectedInstances(copies * sum(map(len, content.series.values())))
    for series_uid, datasets in content.series.items():
        part = target / f"{series_uid}.part"
        shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
        written = 0
        try:
            selection = select_series(datasets)
            yield from (Note(series_uid, note) for note in selection.notes)
            for instance in make(selection.instances, part):
                _write(instance, part / str(instance.SeriesInstanceUID))
                written += 1
                yield WrittenInstance(str(instance.SOPInstanceUID))
        except QuarantineSeriesError as error:
            shutil.rmtree(part, ignore_errors=True)
            yield ExpectedInstances(written - copies * len(datasets))
            yield RefusedSeries(series_uid, str(error))
        except IgnoreSeriesError as error:
            shutil.rmtree(part, ignore_errors=True)
            yield ExpectedInstances(written - copies * len(datasets))
            yield IgnoredSeries(series_uid, str(error))
        else:
            _finish(part, target)
            yield FinishedSeries(written)


def _afresh(instance: Instance) -> Instance:
    """Read an instance once more: a data set keeps its pixels once they were used, and a folder holds many."""
    return read_instance(Path(str(instance.filename)))


def _check_folders(source: Path, target: Path) -> None:
    if not source.is_dir():
        raise ConfigurationError(f"{source} is not a folder")
    if target.resolve().is_relative_to(source.resolve()):
        raise ConfigurationError(f"{target} lies in {source}: the result would be read as input the next time")


def _write(instance: Instance, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{instance.SOPInstanceUID}.dcm").write_bytes(encode(instance))


def _finish(part: Path, target: Path) -> None:
    """Give the folder of each complete series its name; an older one of the same series is replaced."""
    for made in sorted(part.iterdir()):
        folder = target / made.name
        if folder.exists():
            shutil.rmtree(folder)
        made.rename(folder)
    part.rmdir()
