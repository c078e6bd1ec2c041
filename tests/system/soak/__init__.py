"""The soak: many series from parallel clients to an archive, while node, archive and clients are killed."""
