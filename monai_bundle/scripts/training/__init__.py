"""Warm start, Algorithm 1, and what watches and saves them."""
