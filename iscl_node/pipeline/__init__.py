"""The order of things: reception, closing and the durable workflow."""
