from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployment_toolkit.core import ModelSpec, TensorSpec
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer

SAMPLER = Path(__file__).parent / "served_sampler.py"
SPEC = ModelSpec(
    (TensorSpec("shop/item", "int32", (1,), (0, 999)), TensorSpec("amount", "float32", (2,))),
    (TensorSpec("score", "float32", (1,)),),
)
CONFIG = """
backend: "python"
max_batch_size: {max_batch_size}
input [ {{ name: "shop/item" data_type: TYPE_INT32 dims: [ {batch} 1 ] }} ]
input [ {{ name: "amount" data_type: TYPE_FP32 dims: [ {batch} {amounts} ] }} ]
output [ {{ name: "score" data_type: TYPE_FP32 dims: [ {batch} {scores} ] }} ]
instance_group [ {{ count: 1 kind: KIND_CPU }} ]
"""


@pytest.fixture(scope="session")
def sampler_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with the model of served_sampler.py as ``sampler``, and variants of it under other names."""
    repository = tmp_path_factory.mktemp("sampler_repository")
    ranges = f"parameters {{ key: 'model_spec' value {{ string_value: '{json.dumps(SPEC.to_dict())}' }} }}"
    growing = "parameters { key: 'growing_delay' value { string_value: 'yes' } }"
    batched = CONFIG.format(max_batch_size=64, batch="", amounts=2, scores=1)
    configs = {
        "sampler": batched + ranges,
        "growing": batched + ranges + growing,
        "unknown_ranges": batched,
        "free_shape": CONFIG.format(max_batch_size=64, batch="", amounts=-1, scores=1) + ranges,
        "free_output": CONFIG.format(max_batch_size=64, batch="", amounts=2, scores=-1) + ranges,
        "unbatched": CONFIG.format(max_batch_size=0, batch="-1,", amounts=2, scores=1) + ranges,
    }
    for name, config in configs.items():
        (repository / name / "1").mkdir(parents=True)
        (repository / name / "config.pbtxt").write_text(config)
        shutil.copyfile(SAMPLER, repository / name / "1" / "model.py")
    return repository


@pytest.fixture(scope="session")
def sampler_server(sampler_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """A running server that has loaded all models of the repository."""
    log_path = tmp_path_factory.mktemp("sampler_server") / "server.log"
    with local_server(sampler_repository, log_path=log_path) as server:
        for model in sorted(path.name for path in sampler_repository.iterdir()):
            server.load_model(model, timeout_s=60)
        yield server
