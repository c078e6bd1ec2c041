"""Measures of image quality, and the tables and figures made of them."""
