"""Comparison of runs: what differs, by how much, and whether the windows of the measurements tell it from noise."""
