"""Dumps: a model's answers to a dataset, on disk, for metrics and comparisons."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.core import Arrays, Batch, DataloaderFn, Mnemonic, Prediction, Session
from deployment_toolkit.errors import DataError, UsageError
from deployment_toolkit.files.atomic import replace_when_complete
from deployment_toolkit.files.scratch import entries
from deployment_toolkit.options.params import option
from deployment_toolkit.progress import progress_bar
from deployment_toolkit.rows.batches import exact_batches
from deployment_toolkit.rows.dump_files import PLAN_FILE, SECTIONS, DumpFiles, DumpSource, NpyFiles, NpySource
from deployment_toolkit.rows.dump_json import JsonFiles, JsonSource, is_json_dump_file
from deployment_toolkit.rows.dump_requests import REQUESTS_FILE, Requests, RequestsWriter

logger = logging.getLogger("dump")

_READ_ROWS = 65_536


class DumpFormat(Mnemonic):
    """File format of a dump. ``npy``: an array per tensor, readable with ``numpy.load``; ``json``: text, as the
    original's."""

    NPY = "npy"
    JSON = "json"


@dataclass(frozen=True)
class DumpOptions:
    """Options of a dump: its folder, and the parts that are written."""

    output_dir: Path = option("folder of the dump; an earlier dump there is replaced when this one is complete")
    dump_labels: bool = option("write the labels too; metrics need them", False)
    dump_inputs: bool = option("write the inputs too", False)
    dump_format: DumpFormat = option("format of the files", DumpFormat.NPY)


class DumpWriter:
    """Context manager that writes predictions next to ``output_dir`` in constant memory and moves them there when the
    block ends without an error; otherwise nothing is left.

    Raises UsageError if ``output_dir`` holds anything but a dump.
    """

    def __init__(self, options: DumpOptions) -> None:
        self._options = options
        self._path = options.output_dir
        self._stack = contextlib.ExitStack()
        self._files: DumpFiles
        self._requests = RequestsWriter()

    def __enter__(self) -> DumpWriter:
        _check_replaceable(self._path)
        with self._stack:
            folder = self._stack.enter_context(replace_when_complete(self._path, replaces_all=True))
            folder.mkdir()
            self._files = {DumpFormat.NPY: NpyFiles, DumpFormat.JSON: JsonFiles}[self._options.dump_format](folder)
            self._stack.callback(self._files.close)
            self._stack.callback(self._requests.write, folder)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.__exit__(*exc_info)  # type: ignore[arg-type]

    def write(self, prediction: Prediction) -> None:
        """Adds the rows of a batch, which were in one request. Raises DataError if its arrays have unequal numbers of
        rows, lack the labels that the options require, or don't continue the batches before."""
        batch = prediction.batch
        sections = {"ids": {"ids": batch.ids}, "outputs": prediction.y_pred}
        if self._options.dump_labels:
            if not batch.y:
                raise DataError("--dump-labels: the dataloader gives no labels")
            sections["labels"] = batch.y
        if self._options.dump_inputs:
            sections["inputs"] = batch.x
        arrays = {
            f"{section}/{name}": array for section, tensors in sections.items() for name, array in tensors.items()
        }
        for key, array in arrays.items():
            if len(array) != len(batch):
                raise DataError(f"a batch has {len(batch)} ids, but {len(array)} rows of {key}")
        self._files.write(arrays)
        self._requests.add(len(batch))


class Dump:
    """A dump on disk, of ``rows`` rows, in any format, or scores in parts; ``name`` is the name of its folder,
    ``requests`` says which rows were in one request.

    Raises DataError if there is none, if it lacks ids or outputs, or if its arrays have unequal numbers of rows.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise DataError(
                f"there is no dump at {path}: make it with run_inference_on_fw.py, run_inference_on_triton.py or "
                "score_dataset.py"
            )
        self.path = path
        self.name = path.resolve().name
        is_json = any(is_json_dump_file(item) for item in path.iterdir())
        if is_json and any((path / section).is_dir() for section in SECTIONS):
            raise DataError(f"dump {path} holds files of two dumps, in JSON and npy: make the dump again")
        self._source = _source(path, is_json)
        self.rows = self._source.rows
        self.sections = self._source.sections
        self.requests = Requests(path, self.rows)
        missing = [section for section in ("ids", "outputs") if section not in self.sections]
        if missing:
            raise DataError(f"dump {path} has no {' and no '.join(missing)}: {_remedy(path)}")

    def predictions(self, batch_size: int = _READ_ROWS) -> Iterator[Prediction]:
        """Yields the rows in order, ``batch_size`` at a time, in constant memory. Inputs and labels that were not
        dumped are empty."""
        for arrays in exact_batches(self._source.chunks(batch_size), batch_size):
            parts: dict[str, Arrays] = {section: {} for section in SECTIONS}
            for key, array in arrays.items():
                section, name = key.split("/", 1)
                parts[section][name] = array
            yield Prediction(Batch(parts["ids"]["ids"], parts["inputs"], parts["labels"]), parts["outputs"])


class KeptRows:
    """Rows of a dump that has their inputs, as a dataset: they can be sent again without the data that they came from.
    Raises DataError if the dump has none."""

    def __init__(self, dump: Dump) -> None:
        if "inputs" not in dump.sections:
            raise DataError(
                f"dump {dump.path} has no inputs, so its rows can't be sent again: make it with --dump-inputs, or give "
                "the dataloader that it was made with"
            )
        self._dump = dump
        self.num_rows = dump.rows

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Yields the rows in order."""
        for prediction in self._dump.predictions(batch_size):
            yield prediction.batch


def write_predictions(session: Session, dataloader_fn: DataloaderFn, options: DumpOptions) -> int:
    """Sends every batch of the dataloader through the session into a dump, with progress; returns the number of rows.

    Raises DataError if the dataloader gives no rows.
    """
    started = time.monotonic()
    rows = 0
    total: int | None = getattr(dataloader_fn, "num_rows", None)
    batches = (Batch(ids, x, y) for ids, x, y in dataloader_fn())
    with (
        contextlib.closing(batches),
        DumpWriter(options) as dump,
        progress_bar("inference", total, " rows") as progress,
    ):
        for prediction in session.predict(batches):
            dump.write(prediction)
            rows += len(prediction.batch)
            progress.update(len(prediction.batch))
        if rows == 0:
            raise DataError("the dataloader gave no rows: check its data")
    seconds = time.monotonic() - started
    logger.info("%d rows in %.1f s, %.0f rows/s, written to %s", rows, seconds, rows / seconds, options.output_dir)
    return rows


def _source(path: Path, is_json: bool) -> DumpSource:
    if (path / PLAN_FILE).is_file():
        from deployment_toolkit.rows.dump_parts import PartsSource  # other dumps need no pyarrow

        return PartsSource(path)
    return JsonSource(path) if is_json else NpySource(path)


def _remedy(path: Path) -> str:
    pickled = next(iter(sorted(path.glob("*.pkl"))), None)
    if pickled is None:
        return "make the dump again"
    return f"{pickled.name} is a pickle, which may run any code when it is read: write the dump as JSON"


def _check_replaceable(path: Path) -> None:
    if not path.exists():
        return
    if not path.is_dir():
        raise UsageError(f"--output-dir {path} is a file: name a folder")
    foreign = next((item for item in entries(path) if not _is_dump_entry(item)), None)
    if foreign is not None:
        raise UsageError(f"--output-dir {path} holds {foreign.name}, which is no dump: name a new or empty folder")


def _is_dump_entry(path: Path) -> bool:
    """True if a dump may contain a file or folder of this name."""
    return path.name in (*SECTIONS, REQUESTS_FILE) or is_json_dump_file(path)
