"""Deployment of code as a model: a module of this project, with its files, in Triton's Python backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tritonclient.grpc import model_config_pb2 as pb

from deployment_toolkit.core import ModelSpec
from deployment_toolkit.deploying.deployment import name_problems
from deployment_toolkit.deploying.model_config import HOST_FILE, complete_text, host_source, set_signature
from deployment_toolkit.deploying.model_repository import Package
from deployment_toolkit.deploying.queue_policy import NO_DELAY, NO_LIMIT, QueuePolicy
from deployment_toolkit.errors import UsageError, require_at_least


@dataclass(frozen=True)
class PythonPackage:
    """A module as a model. ``module`` defines ``TritonPythonModel``; ``files`` are copied and ``texts`` written to its
    version's folder, under their names here.

    The server joins requests up to ``max_batch_size`` rows; 0: it does not batch. Instances are processes on the CPU.
    Raises UsageError for impossible numbers.
    """

    name: str
    module: str
    spec: ModelSpec
    files: Mapping[str, Path]
    max_batch_size: int
    instances: int = 1
    max_queue_delay_us: int = 0
    queue: QueuePolicy = NO_LIMIT
    texts: Mapping[str, str] = field(default_factory=dict)
    version: int = 1

    def __post_init__(self) -> None:
        for problem in name_problems(self.name):
            raise UsageError(f"model {self.name}: {problem}")
        for name, least in (("max_batch_size", 0), ("instances", 1), ("max_queue_delay_us", 0)):
            require_at_least(f"model {self.name}: {name}", getattr(self, name), least)
        if self.queue.is_set and self.max_queue_delay_us:
            raise UsageError(f"model {self.name}: max_queue_delay_us {self.max_queue_delay_us}: {NO_DELAY}")

    @property
    def package(self) -> Package:
        """Files of the model in a repository."""
        config = pb.ModelConfig(name=self.name, backend="python", default_model_filename=HOST_FILE)
        config.max_batch_size = self.max_batch_size
        config.version_policy.specific.versions.append(self.version)
        set_signature(config, self.spec, self.max_batch_size > 0)
        if self.max_batch_size > 0:
            config.dynamic_batching.preferred_batch_size.append(self.max_batch_size)
            config.dynamic_batching.max_queue_delay_microseconds = self.max_queue_delay_us
            self.queue.write(config.dynamic_batching)
        config.instance_group.add(count=self.instances, kind=pb.ModelInstanceGroup.KIND_CPU)
        texts = {**self.texts, HOST_FILE: host_source(self.module)}
        return Package(self.name, self.version, self.spec, complete_text(config), self.files, texts)
