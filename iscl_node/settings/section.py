"""What the sections of the settings have in common."""

from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationInfo, field_validator

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

A_YEAR_SECONDS = 31_536_000
"""No wait is longer; what is larger by mistake would not be waited for, but fail."""
TEN_YEARS_HOURS = 87_600
A_PEBIBYTE = 1 << 50
MANY = 10_000
"""No limit of connections is higher."""


class Section(BaseModel):
    """A table of the file; an unknown key in it is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _check_no_truth_value(cls, value: Any, info: ValidationInfo) -> Any:
        """Raise a ValueError where true or false stands for a number, as 1 or 0."""
        field = cls.model_fields[info.field_name or ""]
        values = value if isinstance(value, list | tuple) else (value,)
        may_be_truth = field.annotation is bool or bool in get_args(field.annotation)
        if not may_be_truth and any(isinstance(each, bool) for each in values):
            raise ValueError(f"must be a value, not {str(value).lower()}")
        return value
