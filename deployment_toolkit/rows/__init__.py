"""Rows of data: batches, samples, dumps, and the comparison of answers."""
