"""Deploys an ensemble with a deployed network: the saved NVTabular workflow becomes a separate model in a chain with
the network, so that a request of raw features is answered with the network's probability."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployment_toolkit.core import ModelSpec
from deployment_toolkit.deploying.ensemble import Ensemble, EnsembleStep
from deployment_toolkit.deploying.loading import load_package
from deployment_toolkit.deploying.model_config import read_config
from deployment_toolkit.deploying.model_repository import Package, RepositoryOptions, add_package
from deployment_toolkit.deploying.python_package import PythonPackage
from deployment_toolkit.deploying.queue_policy import QueuePolicy
from deployment_toolkit.errors import ModelError, UsageError
from deployment_toolkit.options.command_line import read_command_line
from deployment_toolkit.options.params import option, run_entry_point
from deployment_toolkit.server_access.access_options import AccessOptions
from deployment_toolkit.triton_server.config_keys import MODEL_SPEC
from widedeep.data.dataset_folder import DatasetFolder
from widedeep.preprocessing.raw_features import FEATURE_SPEC, WORKFLOW, load_raw_features

logger = logging.getLogger("ensemble")


@dataclass(frozen=True)
class EnsembleOptions:
    """Options of this script, in addition to the server's."""

    ensemble_model_name: str = option("name of the ensemble; its preprocessing is <name>_preprocessing")
    model_name: str = option("name of the network, which is in the repository already")
    workflow_path: Path = option("folder of the fitted workflow that preprocessing saved")
    model_version: int = option("version of the network", 1)
    feature_spec: Path | None = option(
        "feature specification (YAML); default: the one next to the workflow, else the Outbrain features", None
    )
    max_batch_size: int | None = option("largest batch; by default, and at most, the network's", None)
    preprocessing_instances: int = option("preprocessing processes that run in parallel", 1)
    max_queue_delay_us: int = option("longest time that preprocessing may delay a request to join it with others", 0)


def main(argv: list[str]) -> None:
    command = read_command_line(__doc__, argv, [EnsembleOptions, RepositoryOptions, AccessOptions])
    options, target = command.get(EnsembleOptions), command.get(RepositoryOptions)
    url = command.get(AccessOptions).url(target.server_url)
    packages = make_packages(options, target.model_repository)
    for package in packages:
        folder = add_package(target.model_repository, package).folder
        logger.info("model %s is in %s", package.name, folder)
    if target.load_model:  # loading the ensemble loads its models
        load_package(url, packages[-1], method=target.model_control_mode, timeout_s=target.load_model_timeout_s)


def make_packages(options: EnsembleOptions, repository: Path) -> tuple[Package, Package]:
    """Makes the packages of preprocessing and ensemble. Raises UsageError, ModelError or DataError if they don't fit
    the network."""
    network, config = _read_network(repository, options.model_name, options.model_version)
    network_batch = int(config.max_batch_size)
    max_batch = network_batch if options.max_batch_size is None else options.max_batch_size
    if max_batch > network_batch or (max_batch < 1 and network_batch > 0):
        can = f"takes at most {network_batch} rows" if network_batch else "is deployed without batching"
        raise UsageError(f"--max-batch-size {max_batch}: model {options.model_name} {can}")
    spec = DatasetFolder(options.workflow_path.parent).spec(options.feature_spec)
    preprocessing = PythonPackage(
        name=f"{options.ensemble_model_name}_preprocessing",
        module="widedeep.preprocessing_host",
        spec=load_raw_features(options.workflow_path, spec).spec,
        files={WORKFLOW: options.workflow_path},
        texts={FEATURE_SPEC: spec.to_yaml()},
        max_batch_size=max_batch,
        instances=options.preprocessing_instances,
        max_queue_delay_us=options.max_queue_delay_us,
        queue=QueuePolicy.read(config.dynamic_batching),  # so that requests don't pile up before the limited network
    )
    steps = (EnsembleStep(preprocessing.name, preprocessing.version, preprocessing.spec), network)
    return preprocessing.package, Ensemble(options.ensemble_model_name, steps, max_batch).package


def _read_network(repository: Path, name: str, version: int) -> tuple[EnsembleStep, Any]:
    """Reads the network as the ensemble's last step, and its configuration."""
    path = repository / name / "config.pbtxt"
    if not path.is_file():
        raise UsageError(
            f"there is no model {name} in {repository}: deploy it with model-navigator triton-config-model"
        )
    config = read_config(path)
    if version not in config.version_policy.specific.versions:
        raise UsageError(
            f"{path} serves version {', '.join(map(str, config.version_policy.specific.versions))}, not {version}"
        )
    if MODEL_SPEC not in config.parameters:
        raise ModelError(f"{path} has no parameter {MODEL_SPEC}: deploy it with model-navigator triton-config-model")
    spec = ModelSpec.read(config.parameters[MODEL_SPEC].string_value, str(path))
    return EnsembleStep(name, version, spec), config


if __name__ == "__main__":
    run_entry_point(main)
