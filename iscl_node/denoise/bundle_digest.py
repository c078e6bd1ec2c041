"""The digest that pins a bundle: bundles are trusted code, so a hospital names the one it trusts."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

_NOT_PART_OF_THE_MODEL = {"__pycache__", "runs", "eval"}


def bundle_digest(bundle: Path) -> str:
    """SHA-256 over the names and contents of the bundle's files, hexadecimal.

    Caches, training output and hidden files do not count.
    """
    digest = hashlib.sha256()
    for path in _files(bundle):
        name = path.relative_to(bundle).as_posix().encode()
        content = path.read_bytes()
        digest.update(b"%d %s %d " % (len(name), name, len(content)))
        digest.update(content)
    return digest.hexdigest()


def _files(bundle: Path) -> Iterator[Path]:
    for path in sorted(bundle.rglob("*")):
        parts = path.relative_to(bundle).parts
        if path.is_file() and not any(part.startswith(".") or part in _NOT_PART_OF_THE_MODEL for part in parts):
            yield path
