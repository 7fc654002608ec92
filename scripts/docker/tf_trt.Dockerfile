# Image that converts a SavedModel with TF-TRT, on NVIDIA's TensorFlow image of 24.11 or later (Python 3.12): packages
# in the image's Python, next to its TensorFlow, which is built with TensorRT. `model-navigator convert
# --launch-mode docker --target-formats tf-trt` builds and uses it; the project's sources are mounted.
ARG FROM_IMAGE_NAME
FROM ${FROM_IMAGE_NAME}
RUN python3 -m pip install --no-cache-dir --disable-pip-version-check \
    PyYAML onnx==1.17.0 pyarrow tf2onnx==1.17.0
