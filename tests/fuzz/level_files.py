"""Files: through the header's reader into a spool, and from there as far as the workflow's steps take them."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Final

import numpy as np
from campaign import Input
from file_mutations import Mutations
from file_seeds import seeds

from iscl_node.denoise.denoiser import Denoiser, Slice
from iscl_node.dicom.judging.picture import picture
from iscl_node.dicom.reading import decoding
from iscl_node.dicom.reading.folder import read_instance
from iscl_node.dicom.reading.frames import frames
from iscl_node.dicom.reading.header import read_header
from iscl_node.dicom.reading.volume import to_hu
from iscl_node.domain import (
    SCAN_FACTS,
    Batch,
    EvidenceChoice,
    ModelIdentity,
    OutputSyntax,
    Peer,
    Rule,
    Site,
)
from iscl_node.errors import IgnoreSeriesError, QuarantineSeriesError, RejectInstanceError
from iscl_node.pipeline.steps import series as steps
from iscl_node.pipeline.steps.series import SeriesSteps
from iscl_node.settings import QualitySettings
from iscl_node.store import durable
from iscl_node.store.spool import Spool

PACS: Final = Peer("pacs", "PACS", "127.0.0.1", 104)
WHEN: Final = {
    "any": [
        {"KVP": {"min": 200}},
        {"ConvolutionKernel": {"matches": "^B"}, "SliceThickness": {"max": 0.1}},
        {"not": {"PatientName": {"matches": "no one"}, "StudyDate": {"present": False}}},
    ]
}
"""Conditions that look at values of several kinds, and hold for most series."""
DECODING_SECONDS: Final = 30
PICTURE_EVERY: Final = 50


class Smoothing:
    """A denoiser that is quick: it takes away a tenth of what differs from the neighbor."""

    model = ModelIdentity("Smoothing", "1", "5f" * 32)
    window_hu = (-160.0, 240.0)

    def denoise(self, hu: Slice) -> Slice:
        """As ``Denoiser``."""
        return (hu + np.float32(0.1) * (np.roll(hu, 1, axis=-1) - hu)).astype(np.float32)


class Files:
    """The level."""

    def __init__(self, folder: Path) -> None:
        self._mutations = Mutations(list(seeds().values()))
        self._root = folder / "spool"
        self._pictures = 0
        # That files are durable is tested elsewhere, and takes most of the time.
        durable.os.fsync = lambda _: None  # type: ignore[attr-defined]  # for the room under test only
        decoding._process._answer_seconds = DECODING_SECONDS
        steps.picture = self._picture  # type: ignore[attr-defined]  # where it is called

    def make(self, random: Random) -> Input:
        """A file, and a byte that chooses among rules."""
        return [self._mutations.made(random), random.randbytes(1)]

    def give(self, given: Input) -> str:
        """Receive it and work on it as the node does."""
        part10, (choice,) = given
        try:
            header = read_header(part10)
        except RejectInstanceError as refusal:
            return f"refused {refusal.status:04X}"
        spool = self._fresh_spool()
        spool.store(header, part10)
        batch = spool.close(header.series_instance_uid, datetime.now(UTC))
        try:
            return self._worked_on(spool, batch, choice)
        except IgnoreSeriesError as error:
            spool.ignore(batch, str(error))
            return "ignored"
        except QuarantineSeriesError as error:
            spool.quarantine(batch, str(error))
            return "quarantine: the codec crashed" if "crashed" in str(error) else "quarantine"

    def check(self) -> None:
        """Nothing that stays between inputs can be unwell."""

    def close(self) -> None:
        """Remove the spool."""
        shutil.rmtree(self._root, ignore_errors=True)

    def _picture(self, source_hu: Slice, derived_hu: Slice, reason: str) -> bytes:
        """Draw few of the pictures: each takes longer than all the rest."""
        self._pictures += 1
        return picture(source_hu, derived_hu, reason) if self._pictures % PICTURE_EVERY == 0 else b""

    def _fresh_spool(self) -> Spool:
        shutil.rmtree(self._root, ignore_errors=True)
        return Spool.open(self._root, min_free_bytes=0)

    def _worked_on(self, spool: Spool, batch: Batch, choice: int) -> str:
        worker = _steps(spool, choice)
        rule, series_uids, files = worker.check(batch)
        for file in files:
            worker.derive(batch, rule, series_uids, file)
        made = worker.judge(batch, rule, files)
        for series_uid in [*series_uids, *(uid for uid, _ in made)]:
            _must_be_whole(spool.derived(batch, series_uid))
        spool.release(batch)
        return "derived"


def _steps(spool: Spool, choice: int) -> SeriesSteps:
    """The steps with one of some rules."""
    syntax: OutputSyntax = "source" if choice % 2 else "explicit"
    strengths = (0.5, 1.0) if choice % 3 == 0 else (1.0,)
    evidence = EvidenceChoice(noise_map=choice % 16 == 0, report=choice % 32 == 1)
    site = Site(ae_title="ISCL", institution_name="Site", keep_private=SCAN_FACTS if choice % 5 == 0 else ())
    rule = Rule("all", WHEN, "abdomen", strengths, " ISCL", ("pacs",), "", syntax, evidence)
    denoisers: dict[str, Denoiser] = {"abdomen": Smoothing()}
    limits = QualitySettings().limits()
    return SeriesSteps(spool, [rule], denoisers, limits, "0", site)


def _must_be_whole(files: list[Path]) -> None:
    """What the node made can be read by the node, to the last pixel."""
    assert files
    for file in files:
        read_header(file.read_bytes())
        instance = read_instance(file)
        if "RescaleSlope" in instance:
            assert all(np.isfinite(to_hu(frame)).all() for frame in frames(instance))


class KeptHeaders:
    """The first part of the way alone: quick, so that it gets most of the inputs."""

    def __init__(self, _folder: Path) -> None:
        self._mutations = Mutations(list(seeds().values()))

    def make(self, random: Random) -> Input:
        """A file."""
        return [self._mutations.made(random)]

    def give(self, given: Input) -> str:
        """Read it as before its sender is answered."""
        try:
            read_header(*given)
        except RejectInstanceError as refusal:
            return f"refused {refusal.status:04X}"
        return "read"

    def check(self) -> None:
        """Nothing stays between inputs."""

    def close(self) -> None:
        """Nothing was started."""
