"""Low-dose simulation: physics on arrays in HU; knows no DICOM and no network."""
