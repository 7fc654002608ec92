"""Benchmarks of this project; each is a command, run from the repository's root."""
