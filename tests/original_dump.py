"""Dumps as the original's scripts write them: JSON files of many batches, a new one when enough bytes are kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deployment_toolkit.core import Array, Arrays

ORIGINAL_FILE_BYTES = 256 << 20
Sections = dict[str, Arrays]  # of one batch: ids, outputs, and labels and inputs if they are dumped


def write_original_dump(folder: Path, batches: Sequence[Sections], file_bytes: int = ORIGINAL_FILE_BYTES) -> Path:
    """Writes the batches; a file is complete when the arrays of a section are larger than ``file_bytes``."""
    folder.mkdir(parents=True)
    first_row, kept = 0, list[Sections]()
    for batch in batches:
        kept.append(batch)
        sizes = [sum(array.nbytes for one in kept for array in one[section].values()) for section in batch]
        if max(sizes) > file_bytes:
            first_row, kept = _flush(folder, kept, first_row), []
    if kept:
        _flush(folder, kept, first_row)
    return folder


def _flush(folder: Path, kept: Sequence[Sections], first_row: int) -> int:
    for section in kept[0]:
        data = [{name: _entry(array) for name, array in batch[section].items()} for batch in kept]
        (folder / f"{section}-{first_row:012d}.json").write_text(json.dumps({"data": data}))
    return first_row + sum(len(batch["ids"]["ids"]) for batch in kept)


def _entry(array: Array) -> dict[str, object]:
    return {"content": array.flatten().tolist(), "shape": list(array.shape), "dtype": str(array.dtype)}


def click_batches(rows: int, batch_size: int, *, label: str = "wide_deep_model", seed: int = 0) -> list[Sections]:
    """Batches of displays of five ads with scores and clicks; the label has the output's name."""
    generator = np.random.default_rng(seed)
    scores, clicks = generator.random((rows, 1), np.float32), generator.integers(0, 2, (rows, 1)).astype(np.int32)
    ids = np.arange(rows, dtype=np.int32) // 5
    cuts = [slice(start, start + batch_size) for start in range(0, rows, batch_size)]
    return [
        {"ids": {"ids": ids[cut]}, "outputs": {"wide_deep_model": scores[cut]}, "labels": {label: clicks[cut]}}
        for cut in cuts
    ]
