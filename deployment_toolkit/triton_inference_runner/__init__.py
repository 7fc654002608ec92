"""Inference sessions with a Triton server: one loop, two transports."""
