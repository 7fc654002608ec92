"""Makes what DCN needs: ratings that follow a hidden taste (``--data-dir``), and a checkpoint trained on them
(``--checkpoint-dir``)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deployment_toolkit.core import Array, Arrays, DataloaderModule, ModelModule
from deployment_toolkit.errors import require_options_at_least
from deployment_toolkit.files.atomic import replace_when_complete
from deployment_toolkit.files.patterns import below
from deployment_toolkit.options.params import add_dataclass, from_args, make_parser, option, run_entry_point
from deployment_toolkit.options.plugins import load_module

logger = logging.getLogger("prepare")

_HERE = Path(__file__).parent
_FACTORS = 4


@dataclass(frozen=True)
class PrepareOptions:
    """Options of the command."""

    data_dir: Path = option("folder of the data: written, or with --checkpoint-dir read")
    checkpoint_dir: Path | None = option("folder of the checkpoint to train; without it data is made", None)
    rows: int = option("ratings to make; a sixth of them is for validation", 120_000)
    epochs: int = option("passes over the training data", 5)
    batch_size: int = option("rows of a training step", 512)
    seed: int = option("seed of data, weights and order", 1)

    def __post_init__(self) -> None:
        require_options_at_least(self, ("rows", "epochs", "batch_size"), 1)


def main(argv: list[str]) -> None:
    parser = make_parser(__doc__ or "")
    add_dataclass(parser, PrepareOptions)
    options = from_args(PrepareOptions, parser.parse_args(argv))
    if options.checkpoint_dir is None:
        write_data(options)
    else:
        train(options, options.checkpoint_dir)


def write_data(options: PrepareOptions) -> None:
    """Writes ``train/part_0.parquet`` and ``valid/part_0.parquet``; the folder is there when it is complete."""
    table = make_ratings(options.rows, options.seed)
    valid_rows = options.rows // 6
    with replace_when_complete(options.data_dir) as beside:
        for name, part in (("train", table.slice(valid_rows)), ("valid", table.slice(0, valid_rows))):
            (beside / name).mkdir(parents=True)
            pq.write_table(part, beside / name / "part_0.parquet")
    logger.info("wrote %d ratings, %d of them for validation, to %s", options.rows, valid_rows, options.data_dir)


def make_ratings(rows: int, seed: int) -> pa.Table:
    """Ratings from 0.5 to 5 by a taste for movies and genres that no column shows, with noise."""
    random = np.random.default_rng(seed)
    model = _plugin("model.py", ModelModule)
    users, movies, genres = (model.CARDINALITIES[name] for name in ("user", "movie", "genres"))
    hotness = model.HOTNESS["genres"]
    genres_of_movie = np.where(
        np.arange(hotness) < random.integers(0, hotness + 1, (movies, 1)),
        np.argsort(random.random((movies, genres)))[:, :hotness],
        -1,
    )
    user, movie = random.integers(0, users, rows), (movies * random.random(rows) ** 2).astype(np.int64)
    decades = random.exponential(1.2, movies).astype(np.float32)[movie]
    activity = np.log1p(np.bincount(user, minlength=users)).astype(np.float32)[user]
    of_user, of_movie, of_genre = (random.normal(size=(size, _FACTORS)) for size in (users, movies, genres))
    listed = genres_of_movie[movie]
    present = (listed >= 0)[:, :, None]
    of_genres = (of_genre[listed] * present).sum(axis=1) / np.maximum(present.sum(axis=1), 1)
    taste = (of_user[user] * (0.3 * of_movie[movie] + 0.5 * of_genres)).sum(axis=1)
    rating = 3.4 + 0.8 * taste + random.normal(0, 0.3, movies)[movie] - 0.2 * decades + random.normal(0, 0.4, rows)
    starts = np.concatenate([[0], np.cumsum((listed >= 0).sum(axis=1))])
    columns = {
        "user": user,
        "movie": movie,
        "genres": pa.ListArray.from_arrays(starts.astype(np.int32), listed[listed >= 0]),
        "movie_decades": decades,
        "user_activity": activity,
        "rating": np.clip(np.round(2 * rating) / 2, 0.5, 5).astype(np.float32),
    }
    return pa.table(columns)


def train(options: PrepareOptions, checkpoint_dir: Path) -> None:
    """Fits the network and writes its weights; the folder is there when it is complete."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(options.seed)
    module = _plugin("model.py", ModelModule)
    network = module.build_model()
    network.compile(tf.keras.optimizers.Adam(0.002), "mse", metrics=[tf.keras.metrics.RootMeanSquaredError("rmse")])
    x, y = _all_rows(options.data_dir / "train")
    valid = _all_rows(options.data_dir / "valid")
    with replace_when_complete(checkpoint_dir) as beside:
        beside.mkdir()
        network.fit(
            x, y, options.batch_size, options.epochs, verbose=2, validation_data=valid, validation_batch_size=4096
        )
        network.save_weights(str(beside / module.WEIGHTS))
    logger.info("wrote checkpoint %s", checkpoint_dir)


def _all_rows(folder: Path) -> tuple[Arrays, Array]:
    get_dataloader_fn = _plugin("dataloader.py", DataloaderModule).get_dataloader_fn
    rows = get_dataloader_fn(data_pattern=below(folder, "*.parquet"), batch_size=1 << 30)
    _, x, y = next(rows())
    return x, y["rating"]


def _plugin(name: str, protocol: type[Any]) -> Any:
    return load_module(_HERE / name, protocol)


if __name__ == "__main__":
    run_entry_point(main)
