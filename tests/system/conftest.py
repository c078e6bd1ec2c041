"""Nodes, archives and series for the system tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from archive import RecordingArchive
from bundles import identity_bundle
from factories import ROOT, ct_series
from node import MakeNode, Node
from pydicom.dataset import FileDataset
from pydicom.uid import generate_uid
from sending import MakeSeries


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return identity_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def shared_archive() -> Iterator[RecordingArchive]:
    archive = RecordingArchive()
    archive.start()
    yield archive
    archive.stop()


@pytest.fixture(scope="module")
def shared_node(
    tmp_path_factory: pytest.TempPathFactory, shared_archive: RecordingArchive, bundle: Path
) -> Iterator[Node]:
    """One node for tests that do not end it; each sends series of its own."""
    node = Node(tmp_path_factory.mktemp("node"), shared_archive.port, bundle)
    node.start()
    yield node
    node.close()


@pytest.fixture
def archive() -> Iterator[RecordingArchive]:
    archive = RecordingArchive()
    archive.start()
    yield archive
    archive.stop()


@pytest.fixture
def make_node(tmp_path: Path, archive: RecordingArchive, bundle: Path) -> Iterator[MakeNode]:
    """Nodes for tests that end them; they deliver to ``archive``."""
    nodes: list[Node] = []

    def make(model: Path = bundle, quiet_seconds: float = 0.5, rule: str = "") -> Node:
        nodes.append(Node(tmp_path / "node", archive.port, model, quiet_seconds, rule=rule))
        nodes[-1].start()
        return nodes[-1]

    yield make
    for node in nodes:
        node.close()


@pytest.fixture
def make_series(request: pytest.FixtureRequest, tmp_path: Path) -> MakeSeries:
    """Series on disk with UIDs that no other test has; ``dataset.filename`` is where an instance lies."""

    def make(count: int, name: str = "series", **overrides: object) -> list[FileDataset]:
        prefix = generate_uid(f"{ROOT}.", [request.node.nodeid, name])[:40].rstrip(".")
        folder = tmp_path / name
        folder.mkdir()
        series = ct_series(count, SeriesInstanceUID=f"{prefix}.0", **overrides)
        for number, dataset in enumerate(series, start=1):
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{prefix}.{number}"
            dataset.filename = folder / f"{number:03}.dcm"
            dataset.save_as(dataset.filename, enforce_file_format=True)
        return series

    return make
