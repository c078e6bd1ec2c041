"""What the page shows, and what a person decides on it."""
