"""The gate of a roll-out: rows through a model on the server, and the answers compared with a reference dump's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.core import DataloaderFn
from deployment_toolkit.rollout.record import GateRecord, Site
from deployment_toolkit.rows.batches import BatchStream
from deployment_toolkit.rows.dump import Dump, DumpOptions, KeptRows, write_predictions
from deployment_toolkit.rows.gate import GateLimits, MakeCalculator, check_dumps
from deployment_toolkit.rows.request_sizes import request_sizes
from deployment_toolkit.triton_inference_runner.base import open_session
from deployment_toolkit.triton_server.remote import TritonServer

_BATCH_ROWS = 1024
_INPUTS, _LABELS = "inputs", "labels"


@dataclass(frozen=True)
class GateRows:
    """Rows to ask, by a user's dataloader, or those of a dump that has their inputs; the sizes of the first requests,
    each alone, by default many; how many other requests at once; how long to wait for an answer."""

    rows: DataloaderFn | Dump
    request_rows: Sequence[int] | None = None
    in_flight: int = 1
    response_wait_time_s: float = 120.0


def pass_gate(
    site: Site, version: int, reference: Dump, rows: GateRows, limits: GateLimits, calculator: MakeCalculator | None
) -> GateRecord:
    """Asks the candidate, version ``version``, and compares; returns what the next check of the same rows needs.

    Raises ToleranceError if it differs by more than the limits; what it answered and the tables are in the folder
    ``gate`` of the record.
    """
    answers = _ask(site, site.candidate_name, version, reference, rows, site.gate / "candidate")
    tables = {"csv": site.gate / "correctness.csv", "worst_rows_csv": site.gate / "worst_rows.csv"}
    check_dumps(reference.path, [answers.path], limits, calculator, **tables)
    rows_from = reference if _INPUTS in reference.sections else answers
    return GateRecord(
        str(reference.path.resolve()),
        str(rows_from.path.resolve()),
        reference.rows,
        limits.atol,
        limits.rtol,
        None if rows.request_rows is None else list(rows.request_rows),
        rows.in_flight,
        rows.response_wait_time_s,
    )


def check_again(site: Site, version: int, passed: GateRecord) -> None:
    """Asks the promoted version for the rows of the gate that the candidate has passed. Raises ToleranceError if it
    answers otherwise."""
    reference = Dump(Path(passed.reference))
    rows = GateRows(Dump(Path(passed.rows_from)), passed.request_rows, passed.in_flight, passed.response_wait_time_s)
    answers = _ask(site, site.name, version, reference, rows, site.gate / "promoted")
    check_dumps(
        reference.path, [answers.path], GateLimits(passed.atol, passed.rtol), None, csv=site.gate / "promoted.csv"
    )


def _ask(site: Site, name: str, version: int, reference: Dump, rows: GateRows, target: Path) -> Dump:
    """The model's answers as a dump: in requests of many sizes, each alone, then in the dataloader's batches."""
    most = int(TritonServer.from_url(site.url).model_config(name, str(version))["max_batch_size"])
    batch_rows = min(most or _BATCH_ROWS, _BATCH_ROWS)
    source = BatchStream(KeptRows(rows.rows), batch_rows) if isinstance(rows.rows, Dump) else rows.rows
    sizes = rows.request_rows
    if sizes is None:
        sizes = request_sizes(most) if most else ()
    has_inputs, has_labels = (section in reference.sections for section in (_INPUTS, _LABELS))
    with open_session(
        site.url,
        name,
        str(version),
        synchronous=False,
        max_unresponded_requests=rows.in_flight,
        response_wait_time_s=rows.response_wait_time_s,
        request_rows=sizes,
    ) as session:
        write_predictions(session, source, DumpOptions(target, dump_labels=has_labels, dump_inputs=not has_inputs))
    return Dump(target)
