"""The durable workflows, and what begins them."""
