from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from deployment_toolkit.core import Array
from deployment_toolkit.errors import DataError, ModelError, UsageError
from widedeep.features.spec import Feature, FeatureSpec
from widedeep.training import main

WriteParquet = Callable[..., Path]
SPEC = FeatureSpec(
    numerical=(Feature("ad_id_ctr", "float32"),),
    onehot=(Feature("ad", "int32", 40),),
    multihot=(Feature("tags", "int32", 7, 3),),
    label=Feature("clicked", "int32"),
    group_id=Feature("display_id", "int32"),
)


def planted(seed: int, rows: int) -> dict[str, Array]:
    """Ads in displays of five. In each display the ad with the smallest ``ad * 7 % 40`` is clicked; the numeric feature
    does not show it."""
    ads = np.random.default_rng(seed).integers(0, 40, rows).astype(np.int32)
    best = (ads * 7 % 40).reshape(-1, 5).argmin(axis=1)
    clicked = (np.arange(5) == best[:, None]).astype(np.int32)
    return {"ad": ads, "clicked": clicked.reshape(-1)}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory, write_parquet: WriteParquet) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "feature_spec.yaml").write_text(SPEC.to_yaml())
    for seed, (part, rows) in enumerate({"train": 6000, "valid": 1500}.items()):
        write_parquet(folder / part / "part.parquet", rows, seed, SPEC, **planted(seed, rows))
    return folder


def options(data_dir: Path, checkpoint_dir: Path, *more: str) -> list[str]:
    argv = ["--data-dir", str(data_dir), "--feature-spec", str(data_dir / "feature_spec.yaml")]
    argv += ["--checkpoint-dir", str(checkpoint_dir), "--deep-hidden-units", "8", "8"]
    return [*argv, "--batch-size", "100", "--dense-learning-rate", "0.01", "--table-learning-rate", "0.3", *more]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def ranking(output: str, name: str) -> list[float]:
    """MAP@12, ROC AUC and, for a model, log loss."""
    (line,) = re.findall(rf"^{re.escape(name)} +(.*)$", output, re.MULTILINE)
    return [float(number) for number in line.split() if number != "-"]


@pytest.fixture(scope="module")
def trained(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    checkpoint_dir = tmp_path_factory.mktemp("trained") / "name" / "checkpoint"
    main(options(data_dir, checkpoint_dir, "--epochs", "3"))
    return checkpoint_dir


def test_training_learns_the_pattern_of_the_data(
    data_dir: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(options(data_dir, trained, "--evaluate"))
    output = capsys.readouterr().out
    assert output.splitlines()[0].split() == ["ranking", "map12", "roc_auc", "log_loss"]
    model, random = ranking(output, "model"), ranking(output, "random order")
    popularity = ranking(output, "ad popularity (ad_id_ctr)")
    assert model[0] > 0.85 and model[1] > 0.9 and 0 < model[2] < 0.4
    assert len(random) == len(popularity) == 2
    assert 0.4 < random[0] < 0.52 and 0.4 < popularity[0] < 0.52  # (1 + 1/2 + 1/3 + 1/4 + 1/5) / 5 = 0.457
    assert abs(random[1] - 0.5) < 0.05
    wide = "model/linear_model/layer_with_weights-0/ad.Sembedding_weights/.ATTRIBUTES/VARIABLE_VALUE"
    assert np.ptp(tf.train.load_variable(str(trained), wide)) > 0.1  # the tables learn too


def test_dataset_and_checkpoint_describe_themselves(
    data_dir: Path, trained: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    main(options(data_dir, trained, "--evaluate"))
    said = capsys.readouterr().out
    folders = ["--data-dir", str(data_dir), "--checkpoint-dir"]
    main([*folders, str(trained), "--evaluate"])
    assert capsys.readouterr().out == said
    (tmp_path / "sizes.yaml").write_text("ad: 5\n")
    more = ["--deep-hidden-units", "6", "--epochs", "1", "--embedding-sizes", str(tmp_path / "sizes.yaml")]
    main([*folders, str(tmp_path / "small"), *more])
    shapes = dict(tf.train.list_variables(str(tmp_path / "small")))
    assert shapes["model/dnn_model/layer_with_weights-1/kernel/.ATTRIBUTES/VARIABLE_VALUE"] == [5 + 1 + 64, 6]


def test_training_with_the_same_seed_and_rates_is_reproducible(data_dir: Path, tmp_path: Path) -> None:
    changes = {"a": [], "b": [], "c": ["--seed", "2"], "d": ["--dense-learning-rate", "0.02"]}
    changes |= {"e": ["--table-learning-rate", "0.2"], "f": ["--deep-dropout", "0.2"]}
    for name, changed in changes.items():
        main(options(data_dir, tmp_path / name, "--epochs", "1", *changed))
    a, b, *others = (next((tmp_path / name).glob("*.data-*")).read_bytes() for name in changes)
    assert a == b
    assert len({a, *others}) == 1 + len(others)


def test_training_ends_after_the_given_steps(data_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for steps in ("1", "61", "500"):  # an epoch has 60
        main(options(data_dir, tmp_path / steps, "--epochs", "2", "--max-steps", steps))
    assert re.findall(r"(ended after .* steps|trained on .* rows) ", caplog.text) == [
        *("ended after 1 of 120 steps", "trained on 100 rows"),
        *("ended after 61 of 120 steps", "trained on 6100 rows"),
        "trained on 12000 rows",
    ]
    main(options(data_dir, tmp_path / "whole", "--epochs", "2"))
    weights = {name: next((tmp_path / name).glob("*.data-*")).read_bytes() for name in ("1", "61", "500", "whole")}
    assert weights["500"] == weights["whole"] and len(set(weights.values())) == 3
    with pytest.raises(UsageError, match="--max-steps must be at least 1, not 0"):
        main(options(data_dir, tmp_path / "none", "--max-steps", "0"))


def test_checkpoint_is_replaced_completely_or_not_at_all(
    data_dir: Path, trained: Path, tmp_path: Path, write_parquet: WriteParquet
) -> None:
    checkpoint_dir = tmp_path / "here" / "checkpoint"
    main(options(data_dir, checkpoint_dir, "--epochs", "1"))
    before = files(checkpoint_dir)
    assert sorted(before) == ["checkpoint", "ckpt-1.data-00000-of-00001", "ckpt-1.index", "network.yaml"]

    bad = tmp_path / "bad"
    ads = np.full(1000, 3, np.int32)
    ads[900] = 40
    write_parquet(bad / "train" / "part.parquet", 1000, spec=SPEC, ad=ads)
    write_parquet(bad / "valid" / "part.parquet", 1000, spec=SPEC)
    with pytest.raises(DataError, match=r"column ad, row 900 holds 40, outside 0 \.\. 39"):
        main([*options(bad, checkpoint_dir), "--feature-spec", str(data_dir / "feature_spec.yaml")])
    assert files(checkpoint_dir) == before

    (checkpoint_dir / "ckpt-0.index").touch()
    main(options(data_dir, checkpoint_dir, "--epochs", "1", "--seed", "5"))
    after = files(checkpoint_dir)
    assert after.keys() == before.keys() and after != before
    assert [path.name for path in checkpoint_dir.parent.iterdir()] == ["checkpoint"]


def test_checkpoint_that_cannot_be_written_is_reported_before_training(
    data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with pytest.raises(DataError, match=r"^/sys/checkpoint can't be written: "):
        main(options(data_dir, Path("/sys/checkpoint")))  # no user can write there
    assert "epoch" not in caplog.text


def test_wrong_options_are_reported_before_training(data_dir: Path, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "train").symlink_to(data_dir / "train")
    argv = [*options(tmp_path, tmp_path / "checkpoint"), "--feature-spec", str(data_dir / "feature_spec.yaml")]
    with pytest.raises(DataError, match=r"valid/\*\.parquet' matches no file"):
        main(argv)
    with pytest.raises(UsageError, match="--epochs must be at least 1, not 0"):
        main([*argv, "--epochs", "0"])
    with pytest.raises(UsageError, match="--deep-hidden-units must be positive, not 0"):
        main([*argv, "--deep-hidden-units", "8", "0"])
    with pytest.raises(UsageError, match="--deep-dropout must be at least 0 and below 1"):
        main([*argv, "--deep-dropout", "1"])
    with pytest.raises(ModelError, match="belongs to another model"):
        main([*options(data_dir, trained), "--deep-hidden-units", "8", "--evaluate"])
    assert [path.name for path in tmp_path.iterdir()] == ["train"]
