from __future__ import annotations

from pathlib import Path

import pytest

from deployment_toolkit.errors import UsageError
from deployment_toolkit.results.performance import read_csv, read_performance
from deployment_toolkit.triton_performance_runner.variant import Variant, combinations, model_config_parameters
from deployment_toolkit.triton_performance_runner.variant_sweep import main


def test_every_variant_is_served_and_measured_and_the_model_stays_as_it_is(
    sampler_repository: Path, tmp_path: Path
) -> None:
    config = sampler_repository / "sampler" / "config.pbtxt"
    before, path = config.read_text(), tmp_path / "variants.csv"
    options = "--model-name sampler --instances 1 2 --threads 3 --preferred-batch-sizes 4 --max-queue-delays-us 500 "
    options += "--batch-sizes 2 --concurrency 2 --evaluation-mode online --performance-tool model_analyzer "
    options += "--measurement-mode time_windows --measurement-interval 200 --retries 0 "
    main([*options.split(), "--model-repository", str(sampler_repository), "--result-path", str(path)])
    variants = [Variant.of_cells(line) for line in read_csv(path)]
    assert variants == [Variant(1, 3, (4,), 500), Variant(2, 3, (4,), 500)]  # as the server told before each
    assert all(row["Inferences/Second"] > 0 for row in read_performance(path))
    assert config.read_text() == before
    log = path.with_suffix(".log").read_text()
    assert "Setting parameters to {'threads': {'string_value': '3'}}" in log


def test_model_analyzer_is_told_lists_of_which_it_makes_every_combination() -> None:
    variants = [Variant(1, None, (8,), 0), Variant(2, None, (16,), 0)]
    assert model_config_parameters(variants, "KIND_GPU") == {
        "instance_group": [{"kind": "KIND_GPU", "count": [1, 2]}],
        "dynamic_batching": {"preferred_batch_size": [[8], [16]], "max_queue_delay_microseconds": [0]},
    }
    assert len(combinations(variants)) == 4
    served = {
        "instance_group": [{"count": 1}, {"count": 2}],
        "dynamic_batching": {"preferred_batch_size": [16, 8], "max_queue_delay_microseconds": "500"},
        "parameters": {"threads": {"string_value": "2"}},
    }
    assert Variant.of_config(served) == Variant(3, 2, (8, 16), 500)


def test_it_needs_a_repository(tmp_path: Path) -> None:
    options = ["--model-name", "sampler", "--instances", "1", "--preferred-batch-sizes", "4"]
    with pytest.raises(UsageError, match="give --model-repository"):
        main([*options, "--result-path", str(tmp_path / "variants.csv")])
