"""The only room that computes: HU in, HU out."""
