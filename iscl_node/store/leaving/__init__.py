"""What leaves the spool: deleted by age, for space or by a person, or copied."""
