"""From bytes to an instance of an open series, on disk."""
