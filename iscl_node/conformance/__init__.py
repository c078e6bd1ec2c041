"""The DICOM Conformance Statement, written from the program's own tables."""
