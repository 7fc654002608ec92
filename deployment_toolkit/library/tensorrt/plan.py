"""Files of a TensorRT model: a folder with ``model.plan``, its signature and its build environment.

A plan has no metadata. So signature and value ranges are in ``model_spec.yaml`` next to it, and ``build.yaml`` names
the TensorRT version and the kind of GPU that built it; nothing else can load the plan. A plan that other software built
is a single file with neither.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from deployment_toolkit.core import Format, ModelSpec
from deployment_toolkit.errors import ModelError
from deployment_toolkit.library.base import PLAIN_SPEC_FILE, store_spec
from deployment_toolkit.library.model_files import MAIN_FILES
from deployment_toolkit.options.located_yaml import load_yaml

PLAN_FILE = MAIN_FILES[Format.TRT]
_BUILD_FILE = "build.yaml"
_TOLD_NUMBERS = 3


@dataclass(frozen=True)
class PlanBuild:
    """TensorRT version, GPU and number formats of a plan's build."""

    tensorrt: str
    gpu: str
    precisions: tuple[str, ...]

    def require(self, what: str, *, tensorrt: str, gpu: str) -> None:
        """Raises ModelError if the plan ``what`` was built by another TensorRT version or on another kind of GPU than
        the given ones; the message names both."""
        if not same_tensorrt(self.tensorrt, tensorrt) or self.gpu != gpu:
            raise ModelError(
                f"{what} was built by TensorRT {self.tensorrt} on {self.gpu} and can't be loaded by TensorRT "
                f"{tensorrt} on {gpu}: convert the model there again"
            )


def same_tensorrt(one: str, other: str) -> bool:
    """True if two version texts name one release of TensorRT, by the numbers that both have. NVIDIA's images add CUDA's
    version (``8.6.1.6+cuda12.0.1.011``), Python packages may add a ``post1``, and packages before 10.8 leave out the
    fourth number (``10.4.0`` for ``10.4.0.26``)."""
    numbers = [re.findall(r"\d+", re.split(r"[+-]|\.post", version)[0]) for version in (one, other)]
    return all(len(found) >= _TOLD_NUMBERS for found in numbers) and all(
        mine == its for mine, its in zip(*numbers, strict=False)
    )


def plan_file(path: Path) -> Path:
    """Path of the plan file: in this project's folder, or the path itself. Raises ModelError if there is none."""
    file = path / PLAN_FILE if path.is_dir() else path
    if not file.is_file():
        raise ModelError(f"there is no TensorRT plan at {file}: convert the model first")
    return file


def plan_build(path: Path) -> PlanBuild | None:
    """Build of a plan; None for a plan that other software built. Raises DataError if its file is damaged."""
    file = path / _BUILD_FILE
    if not file.is_file():
        return None
    found = load_yaml(file)
    entries = found.entries("a plan's build")
    missing = [key for key in ("tensorrt", "gpu", "precisions") if key not in entries]
    if missing:
        raise found.error(f"a plan's build lacks {missing[0]}: convert the model again")
    precisions = tuple(item.text("a precision") for item in entries["precisions"].items("precisions"))
    return PlanBuild(entries["tensorrt"].text("tensorrt"), entries["gpu"].text("gpu"), precisions)


def write_plan(path: Path, plan: memoryview, spec: ModelSpec, build: PlanBuild) -> None:
    """Writes the folder ``path``, which must not exist."""
    path.mkdir(parents=True)
    (path / PLAN_FILE).write_bytes(plan)
    store_spec(path / PLAIN_SPEC_FILE, spec)
    plain = asdict(build) | {"precisions": list(build.precisions)}
    (path / _BUILD_FILE).write_text(yaml.safe_dump(plain, sort_keys=False))
