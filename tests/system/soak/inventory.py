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
from typing import Any

from archive import Orthanc
from node import Node
from pydicom import dcmread

from iscl_node.denoise.bundle_digest import bundle_digest
from iscl_node.dicom.uids import SERIES, derived_uid, instance_uid
from iscl_node.domain import ModelIdentity, Site
from iscl_node.domain.strength import ChosenStrength
from iscl_node.making.products import derivations
from soak.sources import Source, pixels_of

_READERS = 4
_SHOWN = 20
_WAY = "commitment"


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
    two, one = (ChosenStrength(0.5), ChosenStrength(1.0)), (ChosenStrength(0, target_noise_hu=10),)
    for strength in two if source.has_two_strengths else one:
        (derivation,) = derivations(model, "full", [strength], " ISCL", "", Site())
        series_uid = str(derived_uid(source.series_uid, derivation, SERIES))
        for instance, sop_uid in enumerate(source.sop_uids(), start=1):
            derived = str(instance_uid(source.series_uid, sop_uid, derivation))
            yield Derived(source.study_uid, series_uid, derived, sop_uid, _source_pixels(instance))


@cache
def _source_pixels(instance: int) -> str:
    return sha256(pixels_of(instance)).hexdigest()


def held(archive: Orthanc) -> list[Derived]:
    """All that the archive has."""
    with ThreadPoolExecutor(_READERS) as readers:
        identities = json.loads(archive.get_bytes("/instances"))
        return list(readers.map(lambda identity: _read(archive, identity), identities))


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
        "not committed exactly once": _not_once(committed(node), (each.sop_uid for each in wanted)),
        "sources not exactly once among the delivered ones": _not_once(
            _sources_in_done(node), (each.source_sop_uid for each in wanted)
        ),
    }
    return "\n".join(_told(node, title, faults) for title, faults in parts.items() if faults)


def committed(node: Node) -> "Counter[str]":
    """What the archive committed to, by the records of the batches that are done: SOP Instance UIDs."""
    return Counter(uid for record in _records(node) for uid in _committed(record))


def _records(node: Node) -> Iterator[list[dict[str, Any]]]:
    """The delivery records of the batches that are done."""
    paths = (Path(folder, name) for folder, _, names in os.walk(node.spool / "done") for name in names)
    return ([*map(json.loads, path.read_text().splitlines())] for path in paths if path.suffix == ".jsonl")


def _committed(entries: Sequence[dict[str, Any]]) -> set[str]:
    ways = {entry["way"] for entry in entries if entry["event"] == "confirmed"}
    return {entry["sop_instance_uid"] for entry in entries if entry["event"] == "answered"} if ways == {_WAY} else set()


def _told(node: Node, title: str, faults: Sequence[object]) -> str:
    lines = [f"{len(faults)} {title}, for example:"]
    for fault in faults[:_SHOWN]:
        lines.append(f"  {fault}")
        if isinstance(fault, Derived):
            lines += [f"    {path}" for path in whereabouts(node, [fault.source_sop_uid, fault.sop_uid])]
    return "\n".join(lines)


def _sources_in_done(node: Node) -> "Counter[str]":
    names = (name for _, _, files in os.walk(node.spool / "done") for name in files)
    return Counter(name.removesuffix(".dcm") for name in names if name.endswith(".dcm"))


def _not_once(counts: "Counter[str]", sop_uids: Iterable[str]) -> list[object]:
    return [(uid, f"{counts[uid]} times") for uid in {*sop_uids, *counts} if counts[uid] != 1]


def whereabouts(node: Node, sop_uids: Iterable[str]) -> list[Path]:
    """Where in the spool the files of instances lie."""
    names = {f"{sop_uid}.dcm" for sop_uid in sop_uids}
    return [Path(folder, name) for folder, _, files in os.walk(node.spool) for name in names & {*files}]


def waiting_batches(node: Node) -> list[str]:
    """The folders of the spool that hold what was not delivered, those of series or batches."""
    folders = ("receiving", "open", "closed", "sent", "quarantine")
    trees = (tree for folder in folders for tree in os.walk(node.spool / folder))
    return sorted(f"{folder}: {len(files)} files" for folder, _, files in trees if files)


def lines_of(nodes: Iterable[Node]) -> list[dict[str, Any]]:
    """The logs of nodes, without what libraries wrote that is no JSON."""
    return [json.loads(line) for node in nodes for line in node.log().splitlines() if line.startswith("{")]


def done_twice(node: Node, lines: Iterable[dict[str, Any]]) -> str:
    """What two workflows did: batches that ended twice or were begun again, instances that one delivery stored twice.

    Nothing that is killed need be begun again: its workflow goes on.
    """
    lines = list(lines)
    ends = Counter((line["series_uid"], line["batch"]) for line in lines if line["event"] == "batch.ended")
    parts = {
        "batches ended more than once": [each for each, count in ends.items() if count > 1],
        "workflows were begun again": [line for line in lines if line["event"] == "workflow.restarted"],
        "instances are twice in a delivery record": [uid for record in _records(node) for uid in _stored_twice(record)],
    }
    return "\n".join(_told(node, title, faults) for title, faults in parts.items() if faults)


def _stored_twice(record: Sequence[dict[str, Any]]) -> set[str]:
    """The instances that were stored again though nobody said that they are missing."""
    stored, twice = set[str](), set[str]()
    for entry in record:
        if entry["event"] == "missing":
            stored.discard(entry["sop_instance_uid"])
        elif entry["event"] == "answered" and entry["stored"]:
            twice |= stored & {entry["sop_instance_uid"]}
            stored.add(entry["sop_instance_uid"])
    return twice


def missed(node: Node) -> int:
    """How often the archive turned out not to have an instance that it had stored: it was killed."""
    return sum(entry["event"] == "missing" for record in _records(node) for entry in record)
