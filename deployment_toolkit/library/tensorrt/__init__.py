"""TensorRT plans: runtime, builder, CUDA memory."""
