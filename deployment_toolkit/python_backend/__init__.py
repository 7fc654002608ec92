"""Inside a process of Triton's Python backend: its tensors as numpy arrays."""
