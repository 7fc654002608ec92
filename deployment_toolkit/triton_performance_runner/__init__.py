"""Measurements of a Triton server."""
