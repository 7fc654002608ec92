"""Builds an image of a model repository and of the rows that are kept for the gate: ``python -m
deployment_toolkit.model_image REPOSITORY TAG --reference-dump-dir FOLDER``, or ``scripts/build_model_image.sh``."""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.containers.engine import ContainerEngine
from deployment_toolkit.errors import DataError, UsageError
from deployment_toolkit.files.atomic import require_free_space, size_bytes, size_words
from deployment_toolkit.files.scratch import entries
from deployment_toolkit.model_image.kept_rows import require_rows_of
from deployment_toolkit.model_image.servable import servable_models
from deployment_toolkit.options.params import add_dataclass, from_args, make_parser, option, run_entry_point

_DOCKERFILE = Path(__file__).parent / "Dockerfile"
_RESERVE_BYTES = 2**20


@dataclass(frozen=True)
class ModelImageOptions:
    """Options of the command."""

    reference_dump_dir: Path = option(
        "dump of the rows for the gate, as run_inference_on_fw.py --dump-inputs --dump-labels makes it"
    )
    from_image_name: str = option("base of the image: one with cp, the smaller the better", "busybox:1.37.0")


def main(argv: list[str]) -> None:
    parser = make_parser(__doc__ or "")
    parser.add_argument("repository", type=Path, help="the model repository: the folder that holds the models' folders")
    parser.add_argument("tag", help="name of the image, as registry/name:version")
    add_dataclass(parser, ModelImageOptions)
    arguments = parser.parse_args(argv)
    build(arguments.repository, arguments.tag, from_args(ModelImageOptions, arguments))


def build(repository: Path, tag: str, options: ModelImageOptions) -> None:
    """Builds the image and prints its name, its content and its id.

    Raises UsageError for a tag that would name different images, DataError or ModelError if the repository can't be
    served elsewhere or the rows aren't the model's, ContainerError if the image can't be built.
    """
    _require_version(tag)
    models = servable_models(repository)
    rows = require_rows_of(options.reference_dump_dir, models)
    with ContainerEngine.connect() as engine, tempfile.TemporaryDirectory(prefix="model-image-") as folder:
        context = Path(folder)
        needed_bytes = size_bytes(repository) + size_bytes(options.reference_dump_dir) + _RESERVE_BYTES
        require_free_space(context, 2 * needed_bytes, f"image {tag}")  # the engine's client packs it once more
        for model in models:
            _copy(model.folder, context / "models" / model.folder.name)
        _copy(options.reference_dump_dir, context / "gate" / "reference")
        shutil.copyfile(_DOCKERFILE, context / "Dockerfile")
        engine.require_image(options.from_image_name)
        engine.build_image(context / "Dockerfile", tag, {"FROM_IMAGE_NAME": options.from_image_name})
        image_id = engine.image_id(tag)
    names = ", ".join(model.folder.name for model in models)
    server = "Dockerfile.serving" if all(model.is_hosted for model in models) else "NVIDIA's image"
    size = size_words(needed_bytes - _RESERVE_BYTES)
    print(f"{tag} ({image_id}): {names}, for {server}, {size} with {rows} rows for the gate")


def _require_version(tag: str) -> None:
    version = re.search(r":([\w][\w.-]*)$", tag, re.ASCII)
    if version is None or version[1] == "latest":
        name = tag.removesuffix(":latest")
        raise UsageError(f"{tag} does not tell one image from the next: give a name with a version, as {name}:1")


def _copy(source: Path, target: Path) -> None:
    """Copies a folder, the files that its links lead to in their place, readable by any user. Raises DataError for what
    is neither file nor folder."""
    target.mkdir(parents=True)
    target.chmod(0o755)
    for item in entries(source):
        copied = target / item.name
        if item.is_dir():
            if item.is_symlink() and source.resolve().is_relative_to(item.resolve()):
                raise DataError(f"{item} leads back to {item.resolve()}: remove this link")
            _copy(item, copied)
        elif item.is_file():
            shutil.copyfile(item, copied)
            copied.chmod(0o644)
        else:
            raise DataError(f"{item} is no file and leads to none: remove it")


if __name__ == "__main__":
    run_entry_point(main)
