"""What the sections of the settings have in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

AETitle = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=16, pattern=r"^[ -\[\]-~]+$")
]
"""Sixteen characters of the default repertoire without backslash (PS3.5 Table 6.2-1, VR AE)."""

Port = Annotated[int, Field(ge=1, le=65535)]


class Section(BaseModel):
    """A table of the file; an unknown key in it is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
