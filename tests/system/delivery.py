"""What must hold of a series in the end, however it came there."""

from collections.abc import Sequence
from pathlib import Path

from archive import RecordingArchive
from node import Node
from pydicom.dataset import FileDataset

from iscl_node.denoise.bundle_digest import bundle_digest
from iscl_node.dicom.uids import SERIES, derived_uid, instance_uid
from iscl_node.domain import Derivation, ModelIdentity

Series = Sequence[FileDataset]


def files_of(series: Series) -> list[Path]:
    """Where the instances lie."""
    return [Path(str(dataset.filename)) for dataset in series]


def series_uid_of(series: Series) -> str:
    """The Series Instance UID that all instances have."""
    return str(series[0].SeriesInstanceUID)


def wait_until_done(node: Node, series: Series) -> None:
    """Wait until every instance is in the spool's folder of delivered ones, and nothing is anywhere else."""
    uid = series_uid_of(series)
    node.wait_for(
        lambda: node.states(uid) == {"done"} and len(node.files("done", uid)) == len(series),
        f"{len(series)} instances are delivered",
    )


def assert_delivered(node: Node, archive: RecordingArchive, series: Series) -> list[FileDataset]:
    """Every source has exactly one derived instance at the archive, with the UIDs that were to be; return them.

    That an instance was stored more than once is allowed, when it was the same to the byte.
    """
    derivation = Derivation(
        ModelIdentity("test", "0", bundle_digest(node.bundle)), "full", 0, " ISCL", "", target_noise_hu=10
    )
    derived = archive.derived_of(series)
    assert {source: [str(each.SOPInstanceUID) for each in found] for source, found in derived.items()} == {
        source: [str(instance_uid(series_uid_of(series), source, derivation))] for source in derived
    }
    instances = [found[0] for found in derived.values()]
    assert {str(each.SeriesInstanceUID) for each in instances} == {
        derived_uid(series_uid_of(series), derivation, SERIES)
    }
    assert {each.StudyInstanceUID for each in instances} == {series[0].StudyInstanceUID}
    return instances
