"""Check that a server's image can load a TensorRT plan, before the plan is deployed."""

from __future__ import annotations

import logging
from pathlib import Path

from deployment_toolkit.containers.engine import ContainerEngine
from deployment_toolkit.errors import ContainerError, ModelError
from deployment_toolkit.hardware import gpu_names
from deployment_toolkit.library.tensorrt.plan import PlanBuild, plan_build, same_tensorrt

logger = logging.getLogger("model-navigator")

VERSION_VARIABLE = "TRT_VERSION"  # set by NVIDIA's images, for example 10.11.0.33


def require_servable(plan: Path, image: str) -> None:
    """Raises ModelError, which names both versions, if the TensorRT of ``image`` is not the version that built the
    plan, or if no GPU of this machine is of the kind that built it.

    If something is unknown, this is logged and the check passes: the origin of a plan that was not made here, the
    TensorRT of an image that names none or is not on this host (it is not pulled), the GPUs of a machine without any.
    """
    build = plan_build(plan)
    if build is None:
        logger.warning("%s tells no TensorRT version: whether %s can load it is not checked", plan, image)
        return
    _require_version(plan, build, image)
    _require_gpu(plan, build)


def _require_version(plan: Path, build: PlanBuild, image: str) -> None:
    version, reason = _version_of(image)
    if version is None:
        logger.warning("%s: whether it can load %s, of TensorRT %s, is not checked", reason, plan, build.tensorrt)
    elif not same_tensorrt(build.tensorrt, version):
        raise ModelError(
            f"{plan} was built by TensorRT {build.tensorrt} and can't be loaded by TensorRT {version} of image "
            f"{image}: convert the model again, with --launch-mode docker --triton-docker-image {image}"
        )


def _version_of(image: str) -> tuple[str | None, str]:
    """TensorRT version of an image, or None and the reason why it is unknown."""
    try:
        with ContainerEngine.connect() as engine:
            environment = engine.image_environment(image)
    except ContainerError as error:
        return None, str(error)
    if environment is None:
        return None, f"image {image} is not here"
    return environment.get(VERSION_VARIABLE), f"image {image} sets no {VERSION_VARIABLE}"


def _require_gpu(plan: Path, build: PlanBuild) -> None:
    names = gpu_names()
    if names and build.gpu not in names:
        raise ModelError(
            f"{plan} was built on {build.gpu} and can't be loaded on {names[0]}: convert the model on this machine"
        )
