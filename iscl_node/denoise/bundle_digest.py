"""Which bundle it is: bundles are trusted code, so a hospital names the digest of the one it trusts."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import structlog

from iscl_node.domain import ModelIdentity
from iscl_node.errors import ConfigurationError

_log = structlog.get_logger(__name__)

_COVERED = ("configs/inference.json", "configs/metadata.json", "models/*.pt", "scripts/**/*")
"""What decides on the result, on the code that runs, and on the name and version in the derived instances."""


def bundle_identity(bundle: Path, trusted_digest: str = "") -> ModelIdentity:
    """Return the name, version and digest of a bundle; none of its code runs and no weights are loaded.

    Parameters
    ----------
    bundle : Path
        Folder of the bundle.
    trusted_digest : str
        Its :func:`bundle_digest`; empty takes any, and says so in the log: that is up to the caller.

    Raises
    ------
    ConfigurationError
        If it is no bundle or not the trusted one.
    """
    if not (bundle / "configs" / "inference.json").is_file():
        raise ConfigurationError(f"{bundle} is no bundle: configs/inference.json is missing")
    digest = bundle_digest(bundle)
    if not trusted_digest:
        _log.warning("bundle.digest_not_pinned", digest=digest, setting="[bundle] digest")
    elif digest != trusted_digest:
        raise ConfigurationError(f"the bundle in {bundle} has digest {digest}, the settings trust {trusted_digest}")
    metadata = read_json(bundle / "configs" / "metadata.json")
    return ModelIdentity(str(metadata.get("name", bundle.name)), str(metadata.get("version", "")), digest)


def read_json(path: Path) -> dict[str, Any]:
    """Read a configuration of a bundle.

    Raises
    ------
    ConfigurationError
        If it cannot be read or is no JSON.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: {error}") from error
    return content


def bundle_digest(bundle: Path) -> str:
    """SHA-256 over the names and contents of the files that the node uses, hexadecimal.

    These are the network's definition, all code, the weights of every profile and the metadata. Documentation, exports
    and the configurations of training and evaluation do not count, nor do caches and hidden files: the same result
    keeps the same digest, and with it the same derived UIDs.
    """
    digest = hashlib.sha256()
    for path in _files(bundle):
        name = path.relative_to(bundle).as_posix().encode()
        content = path.read_bytes()
        digest.update(b"%d %s %d " % (len(name), name, len(content)))
        digest.update(content)
    return digest.hexdigest()


def _files(bundle: Path) -> Iterator[Path]:
    for path in sorted({path for pattern in _COVERED for path in bundle.glob(pattern)}):
        parts = path.relative_to(bundle).parts
        if path.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in parts):
            yield path
