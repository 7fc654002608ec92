"""The configuration of a run: one YAML, checked key by key before anything starts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.containers.images import TRITON_IMAGE, built_image_name
from deployment_toolkit.core import Batching, LoadMethod, PerformanceTool
from deployment_toolkit.deploying.deployment import name_problems
from deployment_toolkit.errors import UsageError, require_at_least, require_within
from deployment_toolkit.options.located_yaml import load_yaml
from deployment_toolkit.options.mapping import from_mapping
from deployment_toolkit.server_access.access_options import AccessOptions
from deployment_toolkit.server_access.url import Scheme, ServerUrl
from deployment_toolkit.triton_performance_runner.client_user import ClientUser
from runner.config.baseline import Baseline
from runner.config.capacity import CapacityConfig
from runner.config.experiment import ExperimentConfig, TritonLaunchMode, require_release
from runner.config.network import NetworkConfig
from runner.config.parts import (
    Checkpoint,
    Correctness,
    DatasetConfig,
    DemoData,
    Framework,
    MeasurementConfig,
    ModelNames,
    Sweeps,
    Training,
)
from runner.config.problems import place_of, problems_of, refusals
from runner.config.quick import Quick
from runner.config.search import Search
from runner.config.servers import (
    CONTAINER_KEYS,
    PORT_KEYS,
    ServerConfig,
    ServerPlan,
    keys_given,
    release_of,
)

_MOST_STEPS = 1000
_LAST_PORT = 65535
_WIDE_DEEP_KEYS = (
    "deep_hidden_units",
    "feature_spec",
    "embedding_sizes",
    "demo_data",
    "training",
    "ensemble_model_name",
)


@dataclass(frozen=True)
class RunConfig:
    """A run. ``feature_spec`` is for the preprocessing of raw data; later stages read the one beside the data.

    A server in a container comes from ``triton_container_image``, else from ``triton_dockerfile``, which is built
    (on ``from_image_name``, if that is given), else it is NVIDIA's of release ``container_version``.
    ``triton_custom_operations`` is a library that it preloads. Without ``triton_launch_mode`` an experiment with any of
    these keys, its own or the run's, uses a container, as the original's do.

    A server that somebody else has started is known by ``triton_http_url`` and ``triton_grpc_url``, and serves the
    folder ``triton_model_repository`` of this host. ``triton_client_user`` (``UID:GID``) is whom perf_analyzer runs as
    there, for a server whose user can't open this one's shared memory. ``ca_certificate`` and the four keys after it
    are the options of every command that takes a server's URL.

    With ``search`` the settings that experiments are served with are searched before they are deployed.

    With ``capacity`` the rate that each experiment's model holds within latency budgets is measured. ``quick`` says how
    ``--quick`` shortens the run; without ``--quick`` it has no effect.

    With ``ensemble_model_name`` each experiment also deploys, compares and measures the network behind its
    preprocessing.

    With ``network`` another network than Wide & Deep is deployed; it takes none of Wide & Deep's own keys.

    With ``baseline`` the run is compared with another at its end.
    """

    model_name: str
    datasets_dir: Path
    datasets: list[DatasetConfig]
    checkpoints: list[Checkpoint]
    configurations: list[ExperimentConfig]
    framework: Framework = Framework.TENSORFLOW2
    batching: Batching = Batching.DYNAMIC
    triton_launch_mode: TritonLaunchMode | None = None
    container_version: str | None = None
    triton_container_image: str | None = None
    triton_dockerfile: Path | None = None
    from_image_name: str | None = None
    triton_custom_operations: Path | None = None
    triton_http_url: str | None = None
    triton_grpc_url: str | None = None
    triton_model_repository: Path | None = None
    triton_client_user: str | None = None
    ca_certificate: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    header_file: list[Path] = field(default_factory=list)
    header_env: list[str] = field(default_factory=list)
    triton_load_model_method: LoadMethod = LoadMethod.EXPLICIT
    ensemble_model_name: str | None = None
    performance_tool: PerformanceTool = PerformanceTool.PERF_ANALYZER
    measurement_steps_offline: int = 8
    measurement_steps_online: int = 32
    measurement: MeasurementConfig = field(default_factory=MeasurementConfig)
    time_budget_minutes: float | None = None
    search: Search | None = None
    capacity: CapacityConfig | None = None
    baseline: Baseline | None = None
    quick: Quick | None = None
    network: NetworkConfig | None = None
    deep_hidden_units: list[int] | None = None
    feature_spec: Path | None = None
    embedding_sizes: Path | None = None
    demo_data: DemoData = field(default_factory=DemoData)
    training: Training = field(default_factory=Training)
    correctness: Correctness = field(default_factory=Correctness)
    http_port: int | None = None
    grpc_port: int | None = None

    def __post_init__(self) -> None:
        for name in ("measurement_steps_offline", "measurement_steps_online"):
            require_within(name, getattr(self, name), 1, _MOST_STEPS)
        if self.time_budget_minutes is not None and not 0 <= self.time_budget_minutes < math.inf:
            raise UsageError(
                f"time_budget_minutes must be a number from 0 (no limit) on, not {self.time_budget_minutes}"
            )
        for name in PORT_KEYS:
            if getattr(self, name) is not None:
                require_within(name, getattr(self, name), 1, _LAST_PORT)
        if self.deep_hidden_units is not None:
            require_at_least("the number of deep_hidden_units", len(self.deep_hidden_units), 1)
            for units in self.deep_hidden_units:
                require_at_least("deep_hidden_units", units, 1)
        for name in ("datasets", "checkpoints", "configurations"):
            if not getattr(self, name):
                raise UsageError(f"{name} must hold at least one entry")
        if len(self.datasets) > 1:
            raise UsageError(f"datasets: a run takes one data set, found {len(self.datasets)}")
        names = [checkpoint.name for checkpoint in self.checkpoints]
        known = set(names)
        if len(known) < len(names):
            raise UsageError(f"checkpoints: two are named {max(names, key=names.count)}, rename one")
        for number, configuration in enumerate(self.configurations, 1):
            for name in (configuration.checkpoint, configuration.parameters.checkpoint):
                if name not in known:
                    raise UsageError(f"configuration {number} uses checkpoint {name}, which checkpoints does not list")
        for key in ("model_name", "ensemble_model_name"):
            for problem in name_problems(getattr(self, key) or self.model_name):
                raise UsageError(f"{key} {getattr(self, key)!r}: {problem}")
        if self.ensemble_model_name in (self.model_name, ""):
            raise UsageError(f"ensemble_model_name {self.ensemble_model_name!r}: give a name that is not model_name")
        if self.ensemble_model_name and self.performance_tool is not PerformanceTool.PERF_ANALYZER:
            raise UsageError(f"ensemble_model_name: {self.performance_tool} measures no ensembles, use perf_analyzer")
        if self.network is not None:
            self._require_own_keys()
        require_release(self.container_version)
        self._require_one_user()
        if self.triton_client_user:
            ClientUser.parse(self.triton_client_user)

    def _require_one_user(self) -> None:
        """Raises UsageError for a wrong URL of a remote server, if its two URLs have different users, or for a client
        certificate without its key."""
        _ = self.access  # which checks its keys
        users = [url.access for scheme in Scheme if (url := self._remote_url(scheme)) is not None]
        if len(users) > 1 and users[0] != users[1]:
            raise UsageError(
                "triton_http_url and triton_grpc_url are of one server, but have different users or passwords: give "
                "both the same, or none and header_file"
            )

    def _require_own_keys(self) -> None:
        """Raises UsageError for a key that means nothing to a configured network, or for missing limits."""
        fields = {item.name: item for item in dataclasses.fields(self)}
        for name in _WIDE_DEEP_KEYS:
            default: Any = fields[name].default
            if default is dataclasses.MISSING:
                default = fields[name].default_factory()  # type: ignore[operator]
            if getattr(self, name) != default:
                raise UsageError(f"{name} is for Wide & Deep, and network describes another: leave one of them out")
        if self.correctness.metrics is None:
            raise UsageError("network: the gate needs limits for its metrics, give correctness: metrics")

    def launch_mode_of(self, configuration: ExperimentConfig) -> TritonLaunchMode:
        """Launch mode of an experiment's server."""
        containers = any(keys_given(part, CONTAINER_KEYS) for part in (self, configuration))
        mode = configuration.triton_launch_mode or self.triton_launch_mode
        return mode or (TritonLaunchMode.DOCKER if containers else TritonLaunchMode.EMBEDDED)

    def triton_image(self, configuration: ExperimentConfig) -> str | None:
        """The image that serves a configuration, the configuration's own keys first; None if it is built."""
        for part in (configuration, self):
            if part.triton_container_image:
                return part.triton_container_image
            if part is self and self.triton_dockerfile:
                return None
            if part.container_version:
                return TRITON_IMAGE.format(part.container_version)
        return None

    def container_release(self, configuration: ExperimentConfig) -> str | None:
        """NVIDIA's release that serves a configuration: its image's, else ``container_version``."""
        return release_of(self.triton_image(configuration)) or configuration.container_version or self.container_version

    def searches(self, number: int) -> bool:
        """True if the settings of experiment ``number`` are searched."""
        return self.search is not None and self.search.chooses(number)

    def server_plan(self, number: int) -> ServerPlan:
        """Server of experiment ``number``."""
        configuration = self.configurations[number - 1]
        return ServerPlan(
            number=number,
            mode=self.launch_mode_of(configuration),
            parameters=configuration.parameters,
            batching=self.batching,
            image=self.triton_image(configuration),
            release=self.container_release(configuration),
            builds=self.triton_dockerfile is not None,
            ensemble=self.ensemble_model_name is not None,
        )

    @property
    def dockerfile(self) -> Path | None:
        """``triton_dockerfile``; a relative one is looked for in the current folder, then in the project's root."""
        path = self.triton_dockerfile
        return path if path is None or path.is_file() else ROOT / path

    @property
    def names(self) -> ModelNames:
        """Names of the models that an experiment deploys."""
        return ModelNames(self.model_name, self.ensemble_model_name)

    @property
    def sweeps(self) -> Sweeps:
        """Measurements of an experiment."""
        return Sweeps(
            self.measurement, self.performance_tool, self.measurement_steps_offline, self.measurement_steps_online
        )

    def server_config(self, number: int) -> ServerConfig:
        """Server of experiment ``number``, of a configuration that was checked."""
        configuration = self.configurations[number - 1]
        mode, image = self.launch_mode_of(configuration), None
        remote, container = mode is TritonLaunchMode.REMOTE, mode is TritonLaunchMode.DOCKER
        if container:
            image = self.triton_image(configuration)
            if image is None:
                assert self.dockerfile is not None, "the configuration was checked"
                image = built_image_name(self.dockerfile, self.from_image_name)
        return ServerConfig(
            mode=mode,
            load_method=self.triton_load_model_method,
            image=image,
            release=self.container_release(configuration) if container else None,
            custom_operations=self.triton_custom_operations if container else None,
            http_port=self.http_port,
            grpc_port=self.grpc_port,
            http_url=self.http_server if remote else None,
            grpc_url=self.grpc_server if remote else None,
            access=self.access if remote else AccessOptions(),
            model_repository=self.triton_model_repository if remote else None,
            client_user=self.triton_client_user if remote else None,
        )

    @property
    def access(self) -> AccessOptions:
        """How clients reach a remote server. Raises UsageError for a client certificate without its key."""
        return AccessOptions(
            ca_certificate=self.ca_certificate,
            client_certificate=self.client_certificate,
            client_key=self.client_key,
            header_file=self.header_file or [],
            header_env=self.header_env or [],
        )

    @property
    def http_server(self) -> ServerUrl | None:
        """The server of remote experiments by HTTP."""
        return self._remote_url(Scheme.HTTP)

    @property
    def grpc_server(self) -> ServerUrl | None:
        """The server of remote experiments by gRPC."""
        return self._remote_url(Scheme.GRPC)

    @property
    def experiment_numbers(self) -> range:
        """Numbers of the experiments, from 1."""
        return range(1, len(self.configurations) + 1)

    @property
    def dataset_dir(self) -> Path:
        """The preprocessed data set: ``valid/*.parquet`` and, if it is to be trained on, ``train/*.parquet``."""
        return (self.datasets_dir / self.datasets[0].name).resolve()

    @property
    def raw_rows_dir(self) -> Path:
        """The data set's rows before preprocessing, ``valid/*.parquet``; an ensemble is asked with them."""
        return self.dataset_dir.with_name(f"{self.dataset_dir.name}_joined")

    def _remote_url(self, scheme: Scheme) -> ServerUrl | None:
        """``triton_http_url`` or ``triton_grpc_url``; one without a protocol has that of its key."""
        key = f"triton_{scheme}_url"
        text = getattr(self, key)
        if text is None:
            return None
        url = ServerUrl.parse(text if "://" in text else f"{scheme}://{text}")
        if url.scheme is not scheme:
            raise UsageError(f"{key} {url} is an address of {url.scheme}: write it as {scheme}://host:port")
        return url


def load_config(
    path: Path, experiments: Sequence[int] = (), change: Callable[[RunConfig], RunConfig] = lambda config: config
) -> RunConfig:
    """Reads a configuration, of which the given experiments are to be run, all of them if none are given. ``change`` is
    applied before it is checked whether they can be launched.

    Raises UsageError or DataError, naming file, line and key, if it can't be used, or if none of these experiments can
    be served (``refusals``).
    """
    found = load_yaml(path)
    config = change(from_mapping(RunConfig, found))
    if config.network is not None:
        config = dataclasses.replace(config, network=config.network.located(path))
    for number in experiments:
        if number not in config.experiment_numbers:
            raise UsageError(f"experiment {number}: {path} has the experiments 1 to {len(config.configurations)}")
    numbers = experiments or config.experiment_numbers
    refused = refusals(config, numbers)
    problems = [*problems_of(config, numbers), *(refused.values() if len(refused) == len(set(numbers)) else ())]
    if problems:
        raise UsageError(f"{place_of(found, problems[0])}: {problems[0]}")
    return config
