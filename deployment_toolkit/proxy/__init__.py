"""A proxy before a Triton server: bounds for its clients' requests."""
