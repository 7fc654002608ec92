"""Bars: speed of the best served format, relative to TensorFlow, to its own engine and to the machine's limits."""
