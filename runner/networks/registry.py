"""The network of a run."""

from __future__ import annotations

from runner.config.run import RunConfig
from runner.networks.configured import ConfiguredNetwork
from runner.networks.network import DeployedNetwork
from runner.networks.wide_deep import WideDeepNetwork


def network_of(config: RunConfig) -> DeployedNetwork:
    """The network that the configuration describes, else Wide & Deep."""
    if config.network is not None:
        return ConfiguredNetwork.of(config.network, config.dataset_dir)
    return WideDeepNetwork.of(config)
