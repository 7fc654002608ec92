"""Names of NVIDIA's images, to be formatted with a release such as 25.07."""

from __future__ import annotations

FRAMEWORK_IMAGE = "nvcr.io/nvidia/tensorflow:{}-tf2-py3"
TRITON_IMAGE = "nvcr.io/nvidia/tritonserver:{}-py3"
