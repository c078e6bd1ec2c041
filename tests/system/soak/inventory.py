"""What the archive must hold in the end, what it holds, and where the rest is."""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from io import BytesIO
from pathlib import Path

from archive import Orthanc
from node import Node
from pydicom import dcmread

from iscl_node.denoise.bundle_digest import bundle_digest
from iscl_node.dicom.uids import INSTANCE, SERIES, derived_uid
from iscl_node.domain import Derivation, ModelIdentity
from soak.sources import Source, pixels_of

_READERS = 4
_SHOWN = 20


@dataclass(frozen=True)
class Derived:
    """One derived instance: its UIDs, its source, its pixels; and what all instances of its series must share."""

    study_uid: str
    series_uid: str
    sop_uid: str
    source_sop_uid: str
    pixel_digest: str
    shared: tuple[str, ...] = field(default=(), compare=False)


_SHARED = ("SeriesNumber", "SeriesDescription", "SeriesDate", "SeriesTime", "FrameOfReferenceUID", "PatientID")


def expected(node: Node, sources: Iterable[Source]) -> set[Derived]:
    """One derived instance for each source instance and strength, under the computed UIDs.

    The node's model changes nothing, so the pixels are those of the source.
    """
    model = ModelIdentity("test", "0", bundle_digest(node.bundle))
    return {each for source in sources for each in _derived(source, model)}


def _derived(source: Source, model: ModelIdentity) -> Iterator[Derived]:
    for strength in (0.5, 1.0) if source.has_two_strengths else (1.0,):
        derivation = Derivation(model, "abdomen", strength, " ISCL", "")
        series_uid = str(derived_uid(source.series_uid, derivation, SERIES))
        for instance, sop_uid in enumerate(source.sop_uids(), start=1):
            derived = str(derived_uid(sop_uid, derivation, INSTANCE))
            yield Derived(source.study_uid, series_uid, derived, sop_uid, _source_pixels(instance))


@cache
def _source_pixels(instance: int) -> str:
    return sha256(pixels_of(instance)).hexdigest()


def held(archive: Orthanc) -> list[Derived]:
    """All that the archive has."""
    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(lambda identity: _read(archive, identity), archive.get("/instances")))


def _read(archive: Orthanc, identity: str) -> Derived:
    file = dcmread(BytesIO(archive.get_bytes(f"/instances/{identity}/file")))
    (image,) = file.SourceImageSequence
    uids = file.StudyInstanceUID, file.SeriesInstanceUID, file.SOPInstanceUID, image.ReferencedSOPInstanceUID
    shared = tuple(str(file.get(keyword)) for keyword in _SHARED)
    return Derived(*map(str, uids), sha256(file.PixelData).hexdigest(), shared)


def differences(node: Node, wanted: set[Derived], found: Sequence[Derived]) -> str:
    """What is missing, with where the spool has it, what should not be there, and series that are not one series."""
    shared: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for each in found:
        shared[each.series_uid].add(each.shared)
    parts: dict[str, list[object]] = {
        "missing in the archive": [*wanted - set(found)],
        "in the archive but should not be": [*set(found) - wanted],
        "in the archive more than once": [each for each, count in Counter(found).items() if count > 1],
        "series whose instances differ": [each for each in shared.items() if len(each[1]) > 1],
        "sources not exactly once among the delivered ones": _not_once_in_done(node, wanted),
    }
    return "\n".join(_told(node, title, faults) for title, faults in parts.items() if faults)


def _told(node: Node, title: str, faults: Sequence[object]) -> str:
    lines = [f"{len(faults)} {title}, for example:"]
    for fault in faults[:_SHOWN]:
        lines.append(f"  {fault}")
        if isinstance(fault, Derived):
            lines += [f"    {path}" for path in whereabouts(node, [fault.source_sop_uid, fault.sop_uid])]
    return "\n".join(lines)


def _not_once_in_done(node: Node, wanted: Iterable[Derived]) -> list[object]:
    counts = Counter({f"{each.source_sop_uid}.dcm": 0 for each in wanted})
    counts.update(name for _, _, files in os.walk(node.spool / "done") for name in files if name.endswith(".dcm"))
    return [(name, f"{count} times") for name, count in counts.items() if count != 1]


def whereabouts(node: Node, sop_uids: Iterable[str]) -> list[Path]:
    """Where in the spool the files of instances lie."""
    names = {f"{sop_uid}.dcm" for sop_uid in sop_uids}
    return [Path(folder, name) for folder, _, files in os.walk(node.spool) for name in names & {*files}]


def waiting_batches(node: Node) -> list[str]:
    """The folders of the spool that hold what was not delivered, those of series or batches."""
    folders = ("receiving", "open", "closed", "outbox", "sent", "quarantine")
    trees = (tree for folder in folders for tree in os.walk(node.spool / folder))
    return sorted(f"{folder}: {len(files)} files" for folder, _, files in trees if files)


def events_of(node: Node) -> "Counter[str]":
    """How often each event is in the node's log, those of libraries together."""
    return Counter(str(json.loads(line)["event"]) for line in node.log().splitlines() if line.startswith("{"))
