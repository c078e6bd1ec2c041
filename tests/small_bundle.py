"""Bundles that are quick to build."""

import json
from pathlib import Path

METADATA = {"name": "identity", "version": "1.0.0"}


def write_bundle(folder: Path, network_def: dict[str, object], **top_level: object) -> Path:
    """Write a bundle that computes ``network_def``, without weights."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    config = {"network_def": network_def, **top_level}
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    (folder / "configs" / "metadata.json").write_text(json.dumps(METADATA))
    return folder
