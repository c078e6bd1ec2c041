"""What closed series hold, and hold in common."""
