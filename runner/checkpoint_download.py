"""Downloads a checkpoint from its URL: a zip or tar archive, checked and unpacked into the checkpoint's folder."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from deployment_toolkit.errors import DataError, ModelError
from deployment_toolkit.files.archive import unpack
from deployment_toolkit.files.atomic import remove, replace_when_complete
from deployment_toolkit.files.download import download, require_sha256
from deployment_toolkit.options.params import add_dataclass, from_args, make_parser, option, run_entry_point

logger = logging.getLogger("checkpoint")

STATE_FILE = "checkpoint"  # marks a folder of checkpoints for TensorFlow, and names the latest one


@dataclass(frozen=True)
class DownloadOptions:
    """Options of the command."""

    url: str = option("https or file URL of a zip or tar archive that holds one checkpoint")
    checkpoint_dir: Path = option("folder to make of it")
    sha256: str | None = option("SHA-256 of the archive", None)


def main(argv: list[str]) -> None:
    parser = make_parser(__doc__ or "")
    add_dataclass(parser, DownloadOptions)
    options = from_args(DownloadOptions, parser.parse_args(argv))
    with _archive(options) as archive:
        install(archive, options.checkpoint_dir)
    logger.info("checkpoint of %s is in %s", options.url, options.checkpoint_dir)


def install(archive: Path, folder: Path) -> None:
    """Unpacks an archive; the checkpoint in it, with the files next to it, becomes ``folder``.

    The checkpoint may be at any depth. Raises DataError for an archive that can't be unpacked safely and ModelError if
    it does not contain exactly one checkpoint; then there is no folder.
    """
    with replace_when_complete(folder) as beside:
        beside.mkdir()
        unpacked = beside / ".unpacked"
        unpack(archive, unpacked)
        found = sorted({state.parent for state in unpacked.rglob(STATE_FILE) if _is_checkpoint(state.parent)})
        if len(found) != 1:
            names = ", ".join(str(item.relative_to(unpacked)) for item in found) or "none"
            raise ModelError(
                f"{archive} must hold one TensorFlow checkpoint, a folder with a file {STATE_FILE} and its *.index, "
                f"found {names}: unpack it by hand and copy the right folder to {folder}"
            )
        for item in found[0].iterdir():
            item.rename(beside / item.name)
        remove(unpacked)


def _is_checkpoint(folder: Path) -> bool:
    return (folder / STATE_FILE).is_file() and any(folder.glob("*.index"))


@contextmanager
def _archive(options: DownloadOptions) -> Iterator[Path]:
    """Yields the path of the archive on this machine; a downloaded archive is deleted after the block."""
    of_this_machine = urlsplit(options.url).scheme == "file"
    try:
        path = _local_file(options) if of_this_machine else _downloaded(options)
    except DataError as error:
        folder = options.checkpoint_dir
        raise DataError(
            f"{error}. Without it: copy a checkpoint to {folder}, or train one there (scripts/train.sh --data-dir DATA "
            f"--checkpoint-dir {folder})"
        ) from error
    try:
        yield path
    finally:
        if not of_this_machine:
            path.unlink()


def _local_file(options: DownloadOptions) -> Path:
    parts = urlsplit(options.url)
    path = Path(url2pathname(parts.path))
    if parts.netloc not in ("", "localhost") or not path.is_file():
        raise DataError(f"{options.url}: there is no such file; give file:///absolute/path/of/an/archive")
    require_sha256(path, options.sha256, options.url)
    return path


def _downloaded(options: DownloadOptions) -> Path:
    path = options.checkpoint_dir.with_name(f".{options.checkpoint_dir.name}.archive")
    download(options.url, path, sha256=options.sha256)
    return path


if __name__ == "__main__":
    run_entry_point(main)
