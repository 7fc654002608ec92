"""ONNX models: onnxruntime, precisions, names of tensors."""
