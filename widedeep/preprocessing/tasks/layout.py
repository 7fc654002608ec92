"""Sizes of tasks and files, which bound memory and the number of files."""

from __future__ import annotations

from dataclasses import dataclass

from deployment_toolkit.core import Array


@dataclass(frozen=True)
class Layout:
    """Sizes of what tasks read and write. Those of the data set, ``file_rows`` and ``group_rows``, decide its bytes;
    the others decide only how the work is divided.

    A task deals ``piece_bytes`` of raw files, more if that were above ``most_pieces`` for a table, and sorts
    ``run_rows`` rows at a time, of which every ``sample_rows``-th tells where buckets may begin. A bucket is what a
    task joins: about ``bucket_rows`` clicks, more if that were above ``most_buckets``. A display, which is never
    divided, has at most ``most_display_rows`` clicks.
    """

    piece_bytes: int = 256 << 20
    most_pieces: int = 1024
    run_rows: int = 1 << 22
    sample_rows: int = 1 << 10
    bucket_rows: int = 1 << 21
    most_buckets: int = 1024
    most_display_rows: int = 1 << 24
    file_rows: int = 1 << 22
    group_rows: int = 1 << 16

    def piece(self, total_bytes: int) -> int:
        """Bytes of raw files that a task deals, of a table of this size."""
        return max(self.piece_bytes, -(-total_bytes // self.most_pieces))

    def bucket(self, total_rows: int) -> int:
        """Clicks in a bucket, of so many in all."""
        return max(self.bucket_rows, -(-total_rows // self.most_buckets))


def boundaries(samples: Array, sample_rows: int, bucket_rows: int) -> list[int]:
    """Smallest display ids of the buckets after the first, ascending, from every ``sample_rows``-th display id of each
    sorted run. Between two of them are at most ``bucket_rows`` rows, plus ``sample_rows`` for each run and the rows of
    one display: in a run, fewer than ``sample_rows`` rows lie between two samples."""
    ordered = sorted(samples.tolist())
    step = max(1, bucket_rows // sample_rows)
    return sorted(set(ordered[step::step]))
