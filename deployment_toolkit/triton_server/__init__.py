"""Servers: a context manager each, and what they are told of a model."""
