"""The section [derived] of the settings: what every derived instance says and keeps."""

import re
from difflib import get_close_matches
from typing import Annotated, Final, Literal
from zoneinfo import available_timezones

from pydantic import AfterValidator, BeforeValidator, StringConstraints

from iscl_node import domain
from iscl_node.settings.section import Section

InAnyCharacterSet = StringConstraints(max_length=64, pattern=r"^[ -\[\]-~]*$")
"""ASCII without backslash, as many characters as an LO holds: it must fit any Specific Character Set."""

LONGEST_SUFFIX: Final = 32
"""Half of what a Series Description holds (PS3.5 Table 6.2-1, VR LO)."""


def checked_suffix(text: str) -> str:
    """Return a suffix for the Series Description.

    Raises
    ------
    ValueError
        If it does not fit every Specific Character Set, or would leave the description the source's.
    """
    if not text.strip() or re.fullmatch(rf"[ -\[\]-~]{{1,{LONGEST_SUFFIX}}}", text) is None:
        raise ValueError(f"a suffix has 1 to {LONGEST_SUFFIX} characters of ASCII without backslash, not only spaces")
    return text


def _checked_time_zone(name: str) -> str:
    """Raise a ValueError if there is no such time zone."""
    if name and name not in available_timezones():
        near = get_close_matches(name, available_timezones(), 1)
        hint = f"; did you mean {near[0]!r}?" if near else ", as in 'Europe/Zurich'"
        raise ValueError(f"there is no time zone {name!r}{hint}")
    return name


PrivateElement = Annotated[domain.PrivateElement, BeforeValidator(domain.PrivateElement.parsed)]


class DerivedSettings(Section):
    """What every derived instance says and keeps."""

    content_qualification: Literal["RESEARCH", "PRODUCT"] = "RESEARCH"
    """PRODUCT only where an authority cleared this use; what is made of research data stays RESEARCH."""
    institution_name: Annotated[str, InAnyCharacterSet] = ""
    """Where the node stands, for its item of the Contributing Equipment Sequence; left out when empty."""
    department_name: Annotated[str, InAnyCharacterSet] = ""
    """The department of the node, in the same place."""
    station_name: Annotated[str, InAnyCharacterSet, StringConstraints(max_length=16)] = ""
    """The station name of the node, in the same place."""
    time_zone: Annotated[str, AfterValidator(_checked_time_zone)] = ""
    """Of the hospital: "Europe/Zurich". Dates and times are written in it where the source does not say in which zone
    its own are; empty: the zone of the machine, which in a container is UTC."""
    keep_private: tuple[PrivateElement, ...] = domain.SCAN_FACTS
    """Private elements that derived instances keep, as (group,xxelement,creator); all others are removed."""

    def site(self, ae_title: str) -> domain.Site:
        """The same as the other rooms know it."""
        return domain.Site(ae_title=ae_title, **dict(self))
