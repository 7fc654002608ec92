"""Triton servers: a context manager for each kind, and their options."""
