"""State that the attempts of one ``convert`` share: source, signature, rows, GPUs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.core import Format
from deployment_toolkit.library.model_files import fingerprint_of
from deployment_toolkit.options.command_line import DATALOADER
from deployment_toolkit.options.params import from_args
from deployment_toolkit.options.plugins import call_plugin, load_module
from deployment_toolkit.rows.sample import first_rows
from navigator.attempts import Attempt, ConversionStep
from navigator.calibration import Calibration, needs_calibration, read_calibration
from navigator.comparison import ComparisonOptions, ModelComparison, RowSource
from navigator.conversions import Conversions, Made
from navigator.options import ModelOptions
from navigator.other_converter.converter import LibraryConverter
from navigator.profiles import ShapeBounds, ShapeOptions, find_bounds
from navigator.reuse import Ledger
from navigator.signature import Signature, find_signature, read_spec

STATE, CONVERTED = "convert_model_state.yaml", "converted"


@dataclass(frozen=True)
class ConversionJob:
    """State that the attempts of a call share."""

    source: Made
    signature: Signature
    bounds: ShapeBounds
    comparison: ModelComparison
    gpus: Sequence[str]
    calibration: Calibration | None
    library: LibraryConverter | None

    @classmethod
    def prepare(
        cls, args: argparse.Namespace, source_format: Format, attempts: Sequence[Attempt], gpus: Sequence[str]
    ) -> ConversionJob:
        """Checks the options against the model and reads the rows; a model is loaded only if no file has its
        signature."""
        model = from_args(ModelOptions, args)
        signature = find_signature(read_spec(model.model_path, source_format), model.inputs, model.outputs)
        bounds = find_bounds(from_args(ShapeOptions, args), signature.spec)
        for attempt in attempts:
            if attempt.needs_gpu:
                bounds.require_all(signature.spec, attempt.name)
        options, rows = from_args(ComparisonOptions, args), _row_source(args)
        comparison = ModelComparison((model.model_path, source_format), signature, options, bounds, rows)
        digest = fingerprint_of(model.model_path)
        source = Made(model.model_path, source_format, digest, reused=True)
        calibration = read_calibration(args, signature) if needs_calibration(attempts) else None
        library = None
        if any(attempt.steps[-1].by_library for attempt in attempts):
            library = LibraryConverter(comparison.batches, signature.spec, bounds.max_batch, gpus)
        return cls(source, signature, bounds, comparison, gpus, calibration, library)

    def conversions(self, workspace: Path) -> Conversions:
        """Converted models of the workspace."""
        ledger, folder = Ledger(workspace / STATE), workspace / CONVERTED
        known = self.bounds.profiles, self.gpus, self.calibration, self.library
        return Conversions(self.source, folder, ledger, *known)

    def steps(self, attempt: Attempt) -> list[ConversionStep]:
        """Steps of the attempt, after a renaming step if names change."""
        if not self.signature.renames:
            return list(attempt.steps)
        names = {"inputs": self.signature.inputs, "outputs": self.signature.outputs}
        own = self.source.format
        return [ConversionStep(f"{own}-renamed", own, own, names, renames=True), *attempt.steps]


def _row_source(args: argparse.Namespace) -> RowSource | None:
    if args.dataloader is None:
        return None
    module = load_module(args.dataloader, DATALOADER.protocol)
    return lambda rows: first_rows(call_plugin(DATALOADER, module, args), rows)
