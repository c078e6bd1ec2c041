"""Private elements by name, and those that derived instances keep by default."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class PrivateElement:
    """Names a private element wherever its block lies: group, last byte of the element, Private Creator (PS3.5 7.8)."""

    group: int
    element: int
    creator: str

    def __str__(self) -> str:
        """As `parsed` reads it."""
        return f"({self.group:04X},xx{self.element:02X},{self.creator})"

    @classmethod
    def parsed(cls, text: object) -> "PrivateElement":
        """Read one as PS3.15 Table E.3.10-1 writes it, for example ``(0043,xx27,GEMS_PARM_01)``.

        Raises
        ------
        ValueError
            If it is written otherwise.
        """
        odd_group, element, creator = r"[0-9A-Fa-f]{3}[13579BDFbdf]", r"[0-9A-Fa-f]{2}", r"[ !#-\[\]-~]{1,64}"
        parts = re.fullmatch(rf"\(({odd_group}),xx({element}),({creator})\)", str(text))
        if parts is None:
            raise ValueError(f"{text!r} is no private element; write it like (0043,xx27,GEMS_PARM_01)")
        return cls(int(parts[1], 16), int(parts[2], 16), parts[3])


SCAN_FACTS = (
    PrivateElement(0x0019, 0x23, "GEMS_ACQU_01"),  # Table Speed
    PrivateElement(0x0019, 0x24, "GEMS_ACQU_01"),  # Mid Scan Time
    PrivateElement(0x0019, 0x27, "GEMS_ACQU_01"),  # Rotation Speed
    PrivateElement(0x0043, 0x27, "GEMS_PARM_01"),  # Scan Pitch Ratio
    PrivateElement(0x0045, 0x01, "GEMS_HELIOS_01"),  # Number of Macro Rows in Detector
    PrivateElement(0x0045, 0x02, "GEMS_HELIOS_01"),  # Macro Width at ISO Center
    PrivateElement(0x00E1, 0x21, "ELSCINT1"),  # DLP
    PrivateElement(0x01E1, 0x26, "ELSCINT1"),  # Phantom Type
    PrivateElement(0x01F1, 0x01, "ELSCINT1"),  # Acquisition Type
    PrivateElement(0x01F1, 0x07, "ELSCINT1"),  # Table Velocity
    PrivateElement(0x01F1, 0x26, "ELSCINT1"),  # Pitch
    PrivateElement(0x01F1, 0x27, "ELSCINT1"),  # Rotation Time
)
"""Private elements that say how the source was acquired, which stays true, and hold no identity: those of a CT in the
list of safe private attributes (PS3.15 Table E.3.10-1)."""
