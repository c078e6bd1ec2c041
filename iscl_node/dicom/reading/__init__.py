"""Bytes and files to values: headers, frames, pixels in HU."""
