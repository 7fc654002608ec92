from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import DataloaderModule
from deployment_toolkit.errors import DataError, UsageError
from deployment_toolkit.options.params import keywords_for, make_parser
from deployment_toolkit.options.plugins import Plugin, load_module, parse_with_plugins
from widedeep.features.outbrain import outbrain_spec
from widedeep.features.spec import Feature, FeatureSpec

DATALOADER = ROOT / "dataloader.py"
WriteParquet = Callable[..., Path]


def test_dataloader_options_give_batches_for_the_model(tmp_path: Path, write_parquet: WriteParquet) -> None:
    write_parquet(tmp_path / "a.parquet", 500)
    argv = ["--dataloader", str(DATALOADER), "--data-pattern", str(tmp_path / "*.parquet"), "--batch-size", "200"]
    plugin = Plugin("dataloader", DataloaderModule, "get_dataloader_fn")
    parser = make_parser("")
    parser.add_argument("--dataloader")
    args, modules = parse_with_plugins(parser, argv, [plugin])
    get_dataloader_fn = modules["dataloader"].get_dataloader_fn
    dataloader_fn = get_dataloader_fn(**keywords_for(get_dataloader_fn, args))

    assert dataloader_fn.num_rows == 500
    for _ in range(2):  # each call starts anew
        batches = list(dataloader_fn())
        assert [outbrain_spec().model_spec.check_inputs(x) for _, x, _ in batches] == [200, 200, 100]
        assert np.concatenate([ids for ids, _, _ in batches]).tolist() == [row // 5 for row in range(500)]
        assert [y["clicked"].shape for _, _, y in batches] == [(200, 1), (200, 1), (100, 1)]


def test_dataloader_uses_the_features_of_the_specification(tmp_path: Path, write_parquet: WriteParquet) -> None:
    label, group = Feature("bought", "float32"), Feature("session", "int64")
    spec = FeatureSpec((), (Feature("item", "int64", 100),), (), label, group)
    (tmp_path / "spec.yaml").write_text(spec.to_yaml())
    path = write_parquet(tmp_path / "a.parquet", 10, spec=spec)
    module = load_module(DATALOADER, DataloaderModule)
    dataloader_fn = module.get_dataloader_fn(data_pattern=str(path), feature_spec=tmp_path / "spec.yaml")
    ((ids, x, y),) = dataloader_fn()
    assert (ids.dtype, list(x), x["item"].dtype, y["bought"].dtype) == (np.int64, ["item"], np.int64, np.float32)

    with pytest.raises(DataError, match="is missing"):
        module.get_dataloader_fn(data_pattern=str(path))
    (tmp_path / "spec.yaml").rename(tmp_path / "feature_spec.yaml")  # now the data set describes itself
    assert module.get_dataloader_fn(data_pattern=str(path)).num_rows == 10
    (tmp_path / "sizes.json").write_text('{"item": 8}')
    sized = module.get_dataloader_fn(data_pattern=str(path), embedding_sizes=tmp_path / "sizes.json")
    assert sized.num_rows == 10
    (tmp_path / "sizes.json").write_text('{"item": 8, "itm": 8}')
    with pytest.raises(DataError, match=r"sizes\.json:1: itm is no categorical feature .* did you mean item\?"):
        module.get_dataloader_fn(data_pattern=str(path), embedding_sizes=tmp_path / "sizes.json")
    with pytest.raises(UsageError, match="--batch-size must be at least 1, not 0"):
        module.get_dataloader_fn(data_pattern=str(path), batch_size=0)
