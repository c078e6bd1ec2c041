"""CT series that are no derived ones: simulated low dose, and volumes that came without DICOM."""
