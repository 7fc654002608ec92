"""Image for a conversion: the named image if it has the requirements, else an image built on it."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.containers.engine import ContainerEngine
from deployment_toolkit.containers.spec import ContainerSpec
from deployment_toolkit.core import Format
from deployment_toolkit.errors import ContainerError
from deployment_toolkit.process import last_lines

logger = logging.getLogger("convert")

DOCKERFILE = ROOT / "Dockerfile"
# TF-TRT needs the image's TensorFlow, which is built with TensorRT; the project's is not.
TF_TRT_DOCKERFILE = ROOT / "scripts" / "docker" / "tf_trt.Dockerfile"
_CONVERTER = "wide-deep-converter"
# Files of a Dockerfile's folder whose change requires a new build. Sources are mounted, so they don't.
_INGREDIENTS = (
    "requirements.txt",
    "requirements-no-deps.txt",
    "requirements-perf-analyzer.txt",
    "constraints.txt",
    "scripts/install.sh",
    "scripts/docker/install_tensorrt.sh",
)
_TAG_LENGTH = 100
_BUILT = "give with --framework-docker-image one that scripts/docker/build.sh made"
_MENDS = {
    Format.TRT: "give NVIDIA's Triton image, 24.05 or later, whose TensorRT is 10.x",
    Format.TF_TRT: "give NVIDIA's TensorFlow image, 24.11 to 25.02",
}
_TENSORFLOW = ("tensorflow", "onnx", "tf2onnx")
_NEEDED = {
    Format.TF_SAVEDMODEL: _TENSORFLOW,
    Format.TF_TRT: _TENSORFLOW,
    Format.ONNX: ("onnx", "onnxruntime"),
    Format.TRT: ("onnx", "tensorrt"),
    Format.OPENVINO: ("openvino",),
}
_PROBE = """
import importlib.util, sys
import navigator.convert
missing = [name for name in sys.argv[1:] if importlib.util.find_spec(name) is None]
if missing:
    sys.exit(f"without {', '.join(missing)}")
"""
_TF_TRT_PROBE = """
import tensorflow
if not tensorflow.sysconfig.get_build_info().get("is_tensorrt_build", False):
    sys.exit("its TensorFlow is built without TensorRT")
"""


@dataclass(frozen=True)
class ConverterImage:
    """Image that converts between ``formats``, based on the image ``base``."""

    base: str
    formats: Collection[Format]

    def find(self, engine: ContainerEngine, *, anew: bool) -> str:
        """Name of ``base``, pulled if this host lacks it, or of an image that is built on it. A built image is kept
        until the base or the project's requirements change, or until a call with ``anew``. Raises ContainerError, which
        names the image, if none can do the conversion."""
        engine.require_image(self.base)
        lacks = self._what_it_lacks(engine, self.base)
        if lacks is None:
            return self.base
        dockerfile = TF_TRT_DOCKERFILE if Format.TF_TRT in self.formats else DOCKERFILE
        name = self._name(engine.image_id(self.base) or self.base, dockerfile)
        if anew or not engine.has_image(name):
            self._build(engine, dockerfile, name, lacks)
        still = self._what_it_lacks(engine, name)
        if still is not None:
            raise ContainerError(
                f"image {self.base} can't convert, nor can {name} with the requirements installed on it ({still}); "
                f"{self._mend}"
            )
        return name

    @property
    def _mend(self) -> str:
        return next((mend for item, mend in _MENDS.items() if item in self.formats), _BUILT)

    def _build(self, engine: ContainerEngine, dockerfile: Path, name: str, lacks: str) -> None:
        logger.info("%s can't convert (%s): building on it, the first time some minutes and 3 GB", self.base, lacks)
        try:
            engine.build_image(dockerfile, name, {"FROM_IMAGE_NAME": self.base})
        except ContainerError as error:
            raise ContainerError(
                f"image {self.base} can't convert ({lacks}) and the requirements can't be installed on it: {error}; "
                f"{self._mend}"
            ) from error

    def _name(self, base_id: str, dockerfile: Path) -> str:
        digest = hashlib.sha256(base_id.encode())
        for path in (dockerfile, *(dockerfile.parent / name for name in _INGREDIENTS)):
            digest.update(path.read_bytes() if path.is_file() else b"")
        tag = re.sub("[^a-zA-Z0-9_.-]+", "-", self.base)[-_TAG_LENGTH:].lstrip(".-")
        return f"{_CONVERTER}:{tag}-{digest.hexdigest()[:12]}"

    def _what_it_lacks(self, engine: ContainerEngine, image: str) -> str | None:
        """Reason why an image can't do the conversion, None if it can."""
        needed = {name for item in self.formats for name in _NEEDED.get(item, ())}
        probe = _PROBE + (_TF_TRT_PROBE if Format.TF_TRT in self.formats else "")
        printed: list[bytes] = []
        spec = ContainerSpec(
            image=image,
            command=("python3", "-c", probe, *sorted(needed)),
            user=f"{os.getuid()}:{os.getgid()}",
            read_only=(ROOT,),
            environment={"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        try:
            with engine.container(spec, printed.append) as container:
                code = container.wait()
        except ContainerError as error:
            return str(error)
        return last_lines(b"".join(printed).decode(errors="replace"), 3) if code else None
