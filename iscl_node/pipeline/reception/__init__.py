"""From the wire to a closed batch."""
