"""What the archive must hold in the end, what it holds, and where the rest is."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path

from archive import Orthanc
from node import Node
from pydicom import dcmread

from iscl_node.denoise.bundle_digest import bundle_digest
from iscl_node.dicom.uids import INSTANCE, SERIES, derived_uid
from iscl_node.domain import Derivation, ModelIdentity
from soak.sources import Source

_READERS = 4
_SHOWN = 20


@dataclass(frozen=True)
class Derived:
    """The UIDs of one derived instance and of what it was made from."""

    study_uid: str
    series_uid: str
    sop_uid: str
    source_sop_uid: str


def expected(node: Node, sources: Iterable[Source]) -> set[Derived]:
    """One derived instance for each source instance and strength, under the computed UIDs."""
    model = ModelIdentity("test", "0", bundle_digest(node.bundle))
    return {each for source in sources for each in _derived(source, model)}


def _derived(source: Source, model: ModelIdentity) -> Iterator[Derived]:
    for strength in (0.5, 1.0) if source.has_two_strengths else (1.0,):
        derivation = Derivation(model, "abdomen", strength, " ISCL", "")
        series_uid = str(derived_uid(source.series_uid, derivation, SERIES))
        for sop_uid in source.sop_uids():
            yield Derived(source.study_uid, series_uid, str(derived_uid(sop_uid, derivation, INSTANCE)), sop_uid)


def held(archive: Orthanc) -> "Counter[Derived]":
    """All that the archive has."""
    with ThreadPoolExecutor(_READERS) as readers:
        return Counter(readers.map(lambda identity: _read(archive, identity), archive.get("/instances")))


def _read(archive: Orthanc, identity: str) -> Derived:
    file = dcmread(BytesIO(archive.get_bytes(f"/instances/{identity}/file")), stop_before_pixels=True)
    (image,) = file.SourceImageSequence
    uids = file.StudyInstanceUID, file.SeriesInstanceUID, file.SOPInstanceUID, image.ReferencedSOPInstanceUID
    return Derived(*map(str, uids))


def differences(node: Node, wanted: set[Derived], found: "Counter[Derived]") -> str:
    """What is missing, with where the spool has it; what is there and should not be; what is there more than once."""
    missing, extra = wanted - set(found), set(found) - wanted
    twice = [each for each, count in found.items() if count > 1]
    parts = {"missing": missing, "should not be there": extra, "more than once": twice}
    lines = []
    for title, instances in parts.items():
        if instances:
            lines.append(f"{len(instances)} {title}, for example:")
            lines += [
                f"  {each}\n    in the spool: {whereabouts(node, [each.source_sop_uid, each.sop_uid])}"
                for each in islice(instances, _SHOWN)
            ]
    return "\n".join(lines)


def whereabouts(node: Node, sop_uids: Iterable[str]) -> list[Path]:
    """Where in the spool the files of instances lie."""
    names = {f"{sop_uid}.dcm" for sop_uid in sop_uids}
    return [Path(folder, name) for folder, _, files in os.walk(node.spool) for name in names & {*files}]


def waiting_batches(node: Node) -> list[str]:
    """The folders of the spool that hold what was not delivered, those of series or batches."""
    folders = ("receiving", "open", "closed", "outbox", "sent", "quarantine")
    trees = (tree for folder in folders for tree in os.walk(node.spool / folder))
    return sorted(f"{folder}: {len(files)} files" for folder, _, files in trees if files)
