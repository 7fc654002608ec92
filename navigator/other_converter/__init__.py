"""Conversion by triton-model-navigator, a library that is installed in a virtual environment of its own."""
