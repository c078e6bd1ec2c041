"""The digest that pins a bundle: bundles are trusted code, so a hospital names the one it trusts."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

_COVERED = ("configs/inference.json", "configs/metadata.json", "models/*.pt", "scripts/**/*")
"""What decides on the result, on the code that runs, and on the name and version in the derived instances."""


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
