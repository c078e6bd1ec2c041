"""Builders: settings to objects, without decisions."""
