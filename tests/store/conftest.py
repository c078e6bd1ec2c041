"""An empty spool for each test."""

from pathlib import Path

import pytest

from iscl_node.store.spool import Spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool.open(tmp_path / "spool", min_free_bytes=0)
