"""The steps that make what is sent of a batch."""
