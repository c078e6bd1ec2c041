"""A source instance and HU make a derived instance."""
