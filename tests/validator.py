"""What dciodvfy says of a derived object and not of its source, and why that is let stand."""

DEVICE_UID = frozenset(
    {
        # Device UID is in the SOP Common Module (PS3.3 Table C.12-1), type 3; dciodvfy does not know it yet.
        "Warning - Attribute is not present in standard DICOM IOD - (0x0018,0x1002) UI Device UID",
        "Warning - Dicom dataset contains attributes not present in standard DICOM IOD - "
        "this is a Standard Extended SOP Class",
    }
)
OWN_SCHEME = frozenset(
    {
        # A private scheme, named in the Coding Scheme Identification Sequence.
        "Warning - Unrecognized defined term <99ISCLNODE> for value 1 of attribute <Coding Scheme Designator>",
    }
)
LATERALITY = frozenset(
    {
        # Type 2C: empty where the source does not tell the body part (PS3.3 C.7.3.1).
        "Warning - is only permitted to be empty when actually unknown; "
        "should be absent (not empty) if an unpaired body part, "
        "and have a value if a paired body part - attribute <Laterality>",
    }
)
