"""A destination that is reached over HTTP."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class WebService:
    """The base URL of a DICOMweb service (PS3.18 8.2), without a slash at its end.

    The first line of ``token_file`` is the bearer token, read anew for each connection.
    """

    url: str
    token_file: Path | None = None
