"""What calls the peers."""
