"""TensorFlow models: Keras and SavedModel, TF-TRT, conversion to ONNX."""
