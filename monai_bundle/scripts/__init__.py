"""The parts of the ISCL bundle that MONAI does not have; the configs put them together."""
