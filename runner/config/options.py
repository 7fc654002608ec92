"""Options of the command that say where the servers run, over what the configuration says."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployment_toolkit.options.params import option
from deployment_toolkit.server_access.access_options import AccessOptions
from runner.config.experiment import TritonLaunchMode
from runner.config.run import RunConfig
from runner.config.servers import ACCESS_KEYS, REMOTE_KEYS, needless_keys

logger = logging.getLogger("runner")


@dataclass(frozen=True)
class LaunchOptions:
    """Options of the command."""

    triton_launch_mode: TritonLaunchMode | None = option(
        "where the server of every experiment runs; default: as configured", None
    )
    triton_http_url: str | None = option("of a remote server, http(s)://host:port; default: as configured", None)
    triton_grpc_url: str | None = option("of a remote server, grpc(s)://host:port; default: as configured", None)
    triton_model_repository: Path | None = option(
        "folder that a remote server serves, as this host sees it; default: as configured", None
    )

    def over(self, config: RunConfig, access: AccessOptions) -> RunConfig:
        """The configuration with what these options and ``access`` say. A launch mode is that of every experiment; keys
        that it has no use for are left out, and it is told which."""
        given: dict[str, Any] = {key: getattr(self, key) for key in REMOTE_KEYS if getattr(self, key) is not None}
        given |= {key: value for key in ACCESS_KEYS if (value := getattr(access, key))}
        mode = self.triton_launch_mode
        if mode is None:
            return dataclasses.replace(config, **given)
        useless = needless_keys(config, {mode})
        configurations = []
        for item in config.configurations:
            own = needless_keys(item, {mode})
            useless |= own
            cleared: dict[str, Any] = dict.fromkeys(own)
            configurations.append(dataclasses.replace(item, triton_launch_mode=None, **cleared))
        if useless:
            logger.info("--triton-launch-mode %s: ignored of the configuration: %s", mode, ", ".join(useless))
        left_out: dict[str, Any] = dict.fromkeys(needless_keys(config, {mode}))
        return dataclasses.replace(config, triton_launch_mode=mode, configurations=configurations, **left_out, **given)
