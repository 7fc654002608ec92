"""Triton Model Analyzer as the load generator."""
