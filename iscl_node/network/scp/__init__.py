"""What serves the peers: the Storage SCP, who may call, and how much may come."""
