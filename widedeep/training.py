"""Trains a demo checkpoint in the original's layout, and evaluates any checkpoint.

Run by ``scripts/train.sh``. The tables learn with Adagrad, which touches only the rows of a batch; the dense layers
with Adam.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Array, Arrays, Batch, MetricsModule
from deployment_toolkit.errors import require_options_at_least
from deployment_toolkit.files.atomic import replace_when_complete, require_free_space
from deployment_toolkit.options.params import add_dataclass, from_args, make_parser, option, run_entry_point
from deployment_toolkit.options.plugins import load_module
from deployment_toolkit.progress import progress_bar
from widedeep.data.dataset_folder import DatasetFolder
from widedeep.data.parquet import ParquetDataset
from widedeep.features.options import NetworkOptions
from widedeep.features.source_spec import TEST, TRAIN
from widedeep.features.spec import OUTPUT_NAME, FeatureSpec
from widedeep.model.network_description import DESCRIPTION_NAME, NetworkDescription, describe_network

logger = logging.getLogger("train")

Scorer = Callable[[Batch], Array]
_EVALUATION_BATCH = 4096
POPULARITY = ("ad_id_ctr", "ad_id_count")


@runtime_checkable
class TrainingDataModule(Protocol):
    """The functions of ``tf_dataloader.py``."""

    def train_input_fn(self, **options: Any) -> Any: ...

    def data_errors(self) -> AbstractContextManager[None]: ...


@dataclass(frozen=True)
class TrainingOptions(NetworkOptions):
    """Options of the command."""

    data_dir: Path = option(
        "preprocessed data: files that its feature_spec.yaml names, else train/*.parquet, valid/*.parquet",
        Path("datasets/outbrain"),
    )
    checkpoint_dir: Path = option(
        "folder of the checkpoint",
        Path("runner_workspace/checkpoints/widedeep_tf2_amp_base_128k_nvtabular/checkpoint"),
    )
    evaluate: bool = option("only evaluate the checkpoint", False)
    epochs: int = option("passes over the training data", 2)
    batch_size: int = option("rows of a training step", 1024)
    max_steps: int | None = option("training ends after this many steps at the latest; default: all epochs", None)
    table_learning_rate: float = option("learning rate of the embedding tables (Adagrad)", 0.05)
    dense_learning_rate: float = option("learning rate of the dense layers (Adam)", 0.0005)
    seed: int = option("seed of weights, shuffling and dropout", 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        limited = () if self.max_steps is None else ("max_steps",)
        require_options_at_least(self, ("epochs", "batch_size", *limited), 1)


def main(argv: list[str]) -> None:
    parser = make_parser(__doc__ or "")
    add_dataclass(parser, TrainingOptions)
    options = from_args(TrainingOptions, parser.parse_args(argv))
    dataset = DatasetFolder(options.data_dir)
    earlier = options.checkpoint_dir if options.evaluate else None
    description = describe_network(options, checkpoint_dir=earlier, dataset=dataset)
    logger.info(description.sources)
    spec = description.spec
    valid = ParquetDataset(dataset.patterns(TEST), spec)
    if options.evaluate:
        from widedeep.model.checkpoint import load_checkpoint

        network = build(description, options)
        load_checkpoint(network, options.checkpoint_dir)
    else:
        patterns = dataset.patterns(TRAIN)
        rows = ParquetDataset(patterns, spec.for_training).num_rows
        network = build(description, options)
        train(network, patterns, rows, description, options)
    report(evaluate(network, valid, spec, options))


def build(description: NetworkDescription, options: TrainingOptions) -> Any:
    """Builds a network with seeded new weights."""
    from widedeep.model.network import build_network

    return build_network(
        description.spec,
        description.embedding_widths,
        hidden_units=description.hidden_units,
        dropout=options.deep_dropout,
        combiner=description.combiner,
        seed=options.seed,
    )


def train(
    network: Any, patterns: Sequence[str], rows: int, description: NetworkDescription, options: TrainingOptions
) -> None:
    """Fits the network to the ``rows`` rows of the files that match the patterns, read by ``tf_dataloader.py``, and
    writes the checkpoint with its description; an earlier one is replaced at the end."""
    from deployment_toolkit.library.tensorflow.shapes import weights_bytes
    from widedeep.model.checkpoint import save_checkpoint

    with replace_when_complete(options.checkpoint_dir) as beside:
        require_free_space(beside.parent, 2 * weights_bytes(network.variables), "a checkpoint")
        _fit(network, patterns, rows, description, options)
        save_checkpoint(network, beside)
        (beside / DESCRIPTION_NAME).write_text(description.to_yaml())
    logger.info("wrote checkpoint %s", options.checkpoint_dir)


def _fit(
    network: Any, patterns: Sequence[str], rows: int, description: NetworkDescription, options: TrainingOptions
) -> None:
    module = load_module(ROOT / "tf_dataloader.py", TrainingDataModule)
    steps = options.epochs * -(-rows // options.batch_size)
    left = min(steps, options.max_steps or steps)
    total = rows * options.epochs if left == steps else left * options.batch_size
    step = _make_step(network, options)
    started = time.monotonic()
    with progress_bar("training", total, " rows") as bar, module.data_errors():
        for epoch in range(options.epochs):
            losses: list[Any] = []
            batches = module.train_input_fn(
                data_pattern=patterns,
                feature_spec=description.spec,
                batch_size=options.batch_size,
                seed=options.seed + epoch,
            )
            for x, y in batches.take(left):
                losses.append(step(x, y))
                bar.update(len(y))
            logger.info("epoch %d of %d: mean loss %.4f", epoch + 1, options.epochs, np.mean(losses))
            left -= len(losses)
            if not left:
                break
    seconds = time.monotonic() - started
    if options.max_steps is not None and options.max_steps < steps:
        logger.info("ended after %d of %d steps (--max-steps)", options.max_steps, steps)
    logger.info("trained on %d rows in %.0f s (%.0f rows/s)", bar.n, seconds, bar.n / seconds)


def _make_step(network: Any, options: TrainingOptions) -> Callable[[Any, Any], Any]:
    import tensorflow as tf

    from widedeep.model.network import TABLE
    from widedeep.model.optimizers import Adagrad, Adam

    variables = network.trainable_variables
    tables = Adagrad([one for one in variables if TABLE in one.name], options.table_learning_rate)
    dense = Adam([one for one in variables if TABLE not in one.name], options.dense_learning_rate)
    random = tf.random.Generator.from_seed(options.seed)

    @tf.function(reduce_retracing=True, autograph=False)  # type: ignore[untyped-decorator]
    def step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            losses = tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(y, tf.float32), network.logits(x, random))
            loss = tf.reduce_mean(losses)
        of_tables, of_dense = tape.gradient(loss, (tables.variables, dense.variables))
        tables.apply(of_tables)
        dense.apply(of_dense)
        return loss

    return step  # type: ignore[no-any-return]


def evaluate(
    model: Any, dataset: ParquetDataset, spec: FeatureSpec, options: TrainingOptions
) -> dict[str, dict[str, float]]:
    """Metrics of the model, of a random order and of ad popularity over a dataset, by name of the ranking."""
    import tensorflow as tf

    answer = tf.function(model, reduce_retracing=True, autograph=False)
    random = np.random.default_rng([options.seed, 12])  # a different stream than the demo data of the same seed
    scorers: dict[str, Scorer] = {
        "model": lambda batch: answer(_tensors(batch.x)).numpy(),
        "random order": lambda batch: random.random((len(batch), 1), dtype=np.float32),
    }
    numbers = {feature.name for feature in spec.numerical}
    for name in POPULARITY:
        if name in numbers:
            scorers[f"ad popularity ({name})"] = lambda batch, name=name: batch.x[name]  # type: ignore[misc]
    module = load_module(ROOT / "metrics.py", MetricsModule)
    calculators = {name: module.MetricsCalculator(output_used_for_metrics=OUTPUT_NAME) for name in scorers}
    for batch in _with_progress(dataset):
        for name, scorer in scorers.items():
            calculators[name].update(batch.ids, {OUTPUT_NAME: scorer(batch)}, None, batch.y)
    return {name: calculator.metrics for name, calculator in calculators.items()}


def _with_progress(dataset: ParquetDataset) -> Iterator[Batch]:
    with progress_bar("evaluating", dataset.num_rows, " rows") as bar:
        for batch in dataset.batches(_EVALUATION_BATCH):
            yield batch
            bar.update(len(batch))


def _tensors(arrays: Arrays) -> dict[str, Any]:
    import tensorflow as tf

    return {name: tf.constant(array) for name, array in arrays.items()}


def report(results: dict[str, dict[str, float]]) -> None:
    """Prints the metrics of each ranking. A popularity or random score is no probability: it has no log loss."""
    names = list(next(iter(results.values())))
    print(f"{'ranking':<30}" + "".join(f"{name:>12}" for name in names))
    for ranking, metrics in results.items():
        shown = (
            f"{metrics[name]:>12.4f}" if ranking == "model" or name != "log_loss" else f"{'-':>12}" for name in names
        )
        print(f"{ranking:<30}" + "".join(shown))


if __name__ == "__main__":
    run_entry_point(main)
