"""Templates, and the files that browsers load: packaged with the node, nothing comes from elsewhere."""

import mimetypes
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


@dataclass(frozen=True)
class StaticFile:
    """A style sheet, a script or an icon."""

    content: bytes
    media_type: str


def static_files() -> dict[str, StaticFile]:
    """All of them by name, read once: a request never becomes part of a path."""
    folder = files("iscl_node.web").joinpath("static")
    return {each.name: StaticFile(each.read_bytes(), _media_type(each.name)) for each in folder.iterdir()}


def rendered(template: str, **facts: Any) -> str:
    """The text of a page; every value is escaped."""
    return _ENVIRONMENT.get_template(template).render(**facts)


def etag_of(body: bytes | memoryview) -> str:
    """Names a content (RFC 9110 8.8.3)."""
    return f'"{sha256(body).hexdigest()[:16]}"'


def utc(seconds: float | str | None) -> str:
    """A time as ISO 8601 in UTC; scripts show it in the browser's own zone."""
    if isinstance(seconds, str):
        return seconds
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def readable_date(text: str) -> str:
    """A date (DA, PS3.5 6.2) with hyphens."""
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 and text.isdecimal() else text


def readable_name(text: str) -> str:
    """A person's name (PN, PS3.5 6.2.1): the first group, with the family name first."""
    family, *given = text.split("=")[0].split("^")
    return ", ".join(each for each in (family, " ".join(filter(None, given))) if each)


def duration(seconds: float) -> str:
    """A time span in words, as exactly as one wants to know."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _media_type(name: str) -> str:
    return "text/javascript" if name.endswith(".js") else mimetypes.guess_type(name)[0] or "application/octet-stream"


_ENVIRONMENT = Environment(
    loader=PackageLoader("iscl_node.web"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters |= {"utc": utc, "date": readable_date, "person": readable_name, "duration": duration}
