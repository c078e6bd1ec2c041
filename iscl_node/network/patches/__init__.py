"""What pynetdicom does otherwise than the node needs: one file for each patch, with what it replaces and why.

Written for the exact version that pyproject.toml pins.
"""
