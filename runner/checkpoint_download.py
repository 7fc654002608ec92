"""Downloads a checkpoint from its URL: a zip or tar archive, checked and unpacked into the checkpoint's folder."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from deployment_toolkit.errors import DataError, ModelError, UsageError
from deployment_toolkit.files.archive import unpack
from deployment_toolkit.files.atomic import remove, replace_when_complete
from deployment_toolkit.files.download import download, require_sha256
from deployment_toolkit.options.params import add_dataclass, from_args, make_parser, option, run_entry_point
from deployment_toolkit.process import environment
from deployment_toolkit.redaction import shown_url

logger = logging.getLogger("checkpoint")

STATE_FILE = "checkpoint"  # marks a folder of checkpoints for TensorFlow, and names the latest one


@dataclass(frozen=True)
class DownloadOptions:
    """Options of the command."""

    checkpoint_dir: Path = option("folder to make of it")
    url: str | None = option("https or file URL of a zip or tar archive that holds one checkpoint", None)
    url_env: str | None = option(
        "environment variable with the URL, for one with a password or a token, which every user of this host could "
        "read on a command line",
        None,
        metavar="VARIABLE",
    )
    sha256: str | None = option("SHA-256 of the archive", None)


def main(argv: list[str]) -> None:
    parser = make_parser(__doc__ or "")
    add_dataclass(parser, DownloadOptions)
    options = from_args(DownloadOptions, parser.parse_args(argv))
    url = _url(options)
    with _archive(url, options) as archive:
        install(archive, options.checkpoint_dir)
    logger.info("checkpoint of %s is in %s", shown_url(url), options.checkpoint_dir)


def _url(options: DownloadOptions) -> str:
    if (options.url is None) == (options.url_env is None):
        raise UsageError("--url and --url-env both say where the archive is: give one of them")
    url = options.url or environment(prepend={}).get(options.url_env or "")
    if not url:
        raise UsageError(f"--url-env {options.url_env}: there is no such environment variable, export it")
    return url


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
def _archive(url: str, options: DownloadOptions) -> Iterator[Path]:
    """Yields the path of the archive on this machine; a downloaded archive is deleted after the block."""
    of_this_machine = urlsplit(url).scheme == "file"
    try:
        path = _local_file(url, options) if of_this_machine else _downloaded(url, options)
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


def _local_file(url: str, options: DownloadOptions) -> Path:
    parts = urlsplit(url)
    path = Path(url2pathname(parts.path))
    if parts.netloc not in ("", "localhost") or not path.is_file():
        raise DataError(f"{shown_url(url)}: there is no such file; give file:///absolute/path/of/an/archive")
    require_sha256(path, options.sha256, shown_url(url))
    return path


def _downloaded(url: str, options: DownloadOptions) -> Path:
    path = options.checkpoint_dir.with_name(f".{options.checkpoint_dir.name}.archive")
    download(url, path, sha256=options.sha256)
    return path


if __name__ == "__main__":
    run_entry_point(main)
