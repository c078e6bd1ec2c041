"""The section [derived] of the settings: what every derived instance says and keeps."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints

from iscl_node import domain

InAnyCharacterSet = StringConstraints(max_length=64, pattern=r"^[ -\[\]-~]*$")
"""ASCII without backslash, as many characters as an LO holds: it must fit any Specific Character Set."""

PrivateElement = Annotated[domain.PrivateElement, BeforeValidator(domain.PrivateElement.parsed)]


class DerivedSettings(BaseModel):
    """What every derived instance says and keeps."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    content_qualification: Literal["RESEARCH", "PRODUCT"] = "RESEARCH"
    """PRODUCT only where an authority cleared this use; what is made of research data stays RESEARCH."""
    institution_name: Annotated[str, InAnyCharacterSet] = ""
    """Where the node stands, for its item of the Contributing Equipment Sequence; left out when empty."""
    department_name: Annotated[str, InAnyCharacterSet] = ""
    station_name: Annotated[str, InAnyCharacterSet, StringConstraints(max_length=16)] = ""
    keep_private: tuple[PrivateElement, ...] = domain.SCAN_FACTS
    """Private elements that derived instances keep, as (group,xxelement,creator); all others are removed."""

    def site(self, ae_title: str) -> domain.Site:
        """The same as the other rooms know it."""
        return domain.Site(ae_title=ae_title, **dict(self))
