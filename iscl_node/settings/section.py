"""What the sections of the settings have in common."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

AETitle = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=16, pattern=r"^[ -\[\]-~]+$")
]
"""Sixteen characters of the default repertoire without backslash (PS3.5 Table 6.2-1, VR AE)."""


def _checked_host(text: str) -> str:
    """Raise a ValueError if it can be neither a name nor an address: then looking it up fails like nothing else."""
    try:
        text.encode("idna")
    except UnicodeError as error:
        raise ValueError("it can be neither a host name nor an address") from error
    return text


Host = Annotated[str, AfterValidator(_checked_host)]

Port = Annotated[int, Field(ge=1, le=65535)]


class Section(BaseModel):
    """A table of the file; an unknown key in it is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
