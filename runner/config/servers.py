"""Servers of a configuration, and the contradictions between their keys."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deployment_toolkit.core import Batching, DeviceKind, Format, LoadMethod
from deployment_toolkit.deploying.deployment import GPU_HOSTED
from deployment_toolkit.server_access.access_options import AccessOptions
from deployment_toolkit.server_access.url import ServerUrl
from runner.config.experiment import RELEASE, Parameters, TritonLaunchMode
from runner.config.hosting import hosting_problems

CONTAINER_KEYS = (
    "container_version",
    "triton_container_image",
    "triton_dockerfile",
    "from_image_name",
    "triton_custom_operations",
)
REMOTE_KEYS = ("triton_http_url", "triton_grpc_url", "triton_model_repository")
ACCESS_KEYS = tuple(item.name for item in dataclasses.fields(AccessOptions))
URL_VARIABLE = "TRITON_URL_AUTHORIZATION"
PORT_KEYS = ("http_port", "grpc_port")
_LAST_WITH_TENSORFLOW = "25.02"
_FIRST_TO_CONVERT_TF_TRT = "24.11"  # the TensorFlow image's Python is 3.12 from there on, before 3.10
_FIRST_WITH_TENSORRT_10 = "24.05"
_TENSORFLOW_BACKEND = (Format.TF_SAVEDMODEL, Format.TF_TRT)


@dataclass(frozen=True)
class _Keys:
    """Keys of a configuration, the launch modes that they are for, and what they say."""

    names: tuple[str, ...]
    modes: tuple[TritonLaunchMode, ...]
    says: str


_KEYS = (
    _Keys(CONTAINER_KEYS, (TritonLaunchMode.DOCKER,), "says which container"),
    _Keys((*REMOTE_KEYS, "triton_client_user", *ACCESS_KEYS), (TritonLaunchMode.REMOTE,), "says which running server"),
    _Keys(PORT_KEYS, (TritonLaunchMode.EMBEDDED, TritonLaunchMode.DOCKER), "says which port to start a server on"),
)


@dataclass(frozen=True)
class ServerPlan:
    """Server of experiment ``number``, by the run's keys and its own.

    ``image`` is the container's by name, None if it is built of a Dockerfile (``builds``) or there is none;
    ``release`` is NVIDIA's that it is of, None if that isn't told.
    ``ensemble`` says that preprocessing is served too.
    """

    number: int
    mode: TritonLaunchMode
    parameters: Parameters
    batching: Batching
    image: str | None
    release: str | None
    builds: bool
    ensemble: bool


@dataclass(frozen=True)
class ServerConfig:
    """Server of an experiment.

    A container has an ``image`` (its name; the engine was not asked), NVIDIA's ``release`` if it is known, and the
    library ``custom_operations`` if one is to be preloaded. A server that somebody else has started has URLs, a
    ``model_repository`` on this host, and perhaps a ``client_user`` for perf_analyzer. Ports are those of a server that
    the run starts; None is any free port.
    """

    mode: TritonLaunchMode
    load_method: LoadMethod
    image: str | None
    release: str | None
    custom_operations: Path | None
    http_port: int | None
    grpc_port: int | None
    http_url: ServerUrl | None
    grpc_url: ServerUrl | None
    model_repository: Path | None
    client_user: str | None
    access: AccessOptions = field(default_factory=AccessOptions)

    @property
    def client_options(self) -> list[str]:
        """Options, beside the URL, with which a command reaches the server. User and password of the URL are in a
        variable that they name."""
        variables = [*self.access.header_env, *self.client_variables]
        return dataclasses.replace(self.access, header_env=variables).arguments

    @property
    def client_variables(self) -> dict[str, str]:
        """Environment variables of such a command, with user and password of the URL."""
        headers = {} if self.grpc_url is None else self.grpc_url.access.headers
        lines = [f"{name}: {value}" for name, value in headers.items()]
        return {URL_VARIABLE: "\n".join(lines)} if lines else {}

    @property
    def distant(self) -> ServerUrl | None:
        """Address of the server if it is on another host."""
        return None if self.grpc_url is None or self.grpc_url.is_loopback else self.grpc_url


def release_of(image: str | None) -> str | None:
    """The release of an image of NVIDIA's Triton by its name, None for other images."""
    found = re.search(rf"tritonserver:({RELEASE})-", image or "")
    return found[1] if found else None


def keys_given(part: object, keys: Sequence[str]) -> tuple[str, ...]:
    """Keys, of the given ones, that a run or an experiment sets."""
    return tuple(name for name in keys if getattr(part, name, None))


def needless_keys(part: object, modes: Collection[TritonLaunchMode]) -> dict[str, str]:
    """The keys that a run or an experiment gives and none of the launch modes needs, and what each says."""
    foreign = (kind for kind in _KEYS if not set(kind.modes) & set(modes))
    return {key: kind.says for kind in foreign for key in keys_given(part, kind.names)}


def needless(part: object, modes: Collection[TritonLaunchMode]) -> Iterator[str]:
    """Problems of needless keys."""
    for key, says in needless_keys(part, modes).items():
        yield f"{key} {says}, triton_launch_mode {' and '.join(sorted(modes))} needs none: leave one of them out"


def server_problems(plan: ServerPlan) -> Iterator[str]:
    """Problems of a server's configuration: contradictions between launch mode, containers, formats and devices."""
    if plan.mode is TritonLaunchMode.EMBEDDED:
        yield from _embedded_problems(plan)
    if plan.mode is TritonLaunchMode.DOCKER:
        yield from _docker_problems(plan)
    for problem in hosting_problems(plan.mode, plan.parameters, plan.batching):
        yield f"configuration {plan.number}: {problem}"


def _embedded_problems(plan: ServerPlan) -> Iterator[str]:
    parameters = plan.parameters
    if parameters.device_kind is DeviceKind.GPU and parameters.format not in GPU_HOSTED:
        yield (
            f"configuration {plan.number}: device_kind gpu needs triton_launch_mode docker or remote for "
            f"{parameters.format}, the embedded server runs only {', '.join(GPU_HOSTED)} on a GPU"
        )


def _docker_problems(plan: ServerPlan) -> Iterator[str]:
    if plan.image is None and not plan.builds:
        yield (
            f"configuration {plan.number}: triton_launch_mode docker needs container_version, triton_container_image "
            "or triton_dockerfile"
        )
    if plan.ensemble:
        yield (
            "ensemble_model_name: preprocessing runs on this project's packages, which a server's container lacks: use "
            "triton_launch_mode embedded or leave it out"
        )


def refusal(plan: ServerPlan) -> str:
    """Reason why no model of the experiment's format can be served in a container of its release, and what to do; empty
    if it can. The other experiments of the run don't depend on it."""
    if plan.mode is not TritonLaunchMode.DOCKER:
        return ""
    release, served = release_of(plan.image), plan.parameters.format
    own = "as the experiment's own container_version"
    if release and served in _TENSORFLOW_BACKEND and release > _LAST_WITH_TENSORFLOW:
        return (
            f"{plan.image} has no TensorFlow backend for {served}, {_LAST_WITH_TENSORFLOW} is the last release with "
            f"one: give that {own}"
        )
    if release and served is Format.TRT and release < _FIRST_WITH_TENSORRT_10:
        return (
            f"{plan.image} has a TensorRT before 10, whose plans can't be made here: take {_FIRST_WITH_TENSORRT_10} or "
            f"later {own}"
        )
    if served is Format.TF_TRT and (plan.release or "") < _FIRST_TO_CONVERT_TF_TRT:
        return (
            "tf-trt is made in NVIDIA's TensorFlow image of the server's release, which must be known and from "
            f"{_FIRST_TO_CONVERT_TF_TRT} to {_LAST_WITH_TENSORFLOW}: give such a one {own}"
        )
    return ""
