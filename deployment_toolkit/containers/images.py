"""Names of images: NVIDIA's, to be formatted with a release such as 25.07, and those built of a Dockerfile."""

from __future__ import annotations

import hashlib
from pathlib import Path

FRAMEWORK_IMAGE = "nvcr.io/nvidia/tensorflow:{}-tf2-py3"
TRITON_IMAGE = "nvcr.io/nvidia/tritonserver:{}-py3"


def built_image_name(dockerfile: Path, from_image_name: str | None = None) -> str:
    """Name of the image that ``built_image`` makes: the same for the same file and the same base."""
    made_of = f"{dockerfile.resolve()}\n{from_image_name or ''}"
    return f"wide-deep-tritonserver:{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"
