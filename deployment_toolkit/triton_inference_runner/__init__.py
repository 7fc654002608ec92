"""Sessions against a Triton server: one loop, two transports."""
