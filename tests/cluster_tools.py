"""Helm, Envoy and Kubernetes' schemas, as scripts/install_cluster_tools.sh installs them, for the tests of deploy/."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployment_toolkit.checkout import ROOT

HOME = ROOT / ".venv-cluster-tools"
PYTHON, HELM, ENVOY = (HOME / "bin" / name for name in ("python", "helm", "envoy"))
CHART = ROOT / "deploy" / "kubernetes"
VALUES_CPU, VALUES_NVIDIA = CHART / "values-cpu.yaml", CHART / "values-nvidia.yaml"
MODEL_IMAGE = "registry.example.com/wide-deep-model@sha256:" + "a" * 64
NEXT_MODEL_IMAGE = "registry.example.com/wide-deep-model@sha256:" + "b" * 64
SERVER_IMAGE = "registry.example.com/wide-deep-serving:1.0"
RELEASE = "wide-deep"

_MISSING = not (HOME / ".installed").exists()
needs_cluster_tools = pytest.mark.skipif(
    _MISSING and os.environ.get("CI") != "true",
    reason="no helm, envoy and Kubernetes' schemas: scripts/install_cluster_tools.sh installs them for the tests",
)


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs Helm, which sees no cluster and none of this user's settings."""
    with tempfile.TemporaryDirectory() as own:
        folders = {f"HELM_{name}_HOME": own for name in ("CACHE", "CONFIG", "DATA")}
        environment = {"PATH": os.defpath, "HOME": own, "KUBECONFIG": f"{own}/none", **folders}
        return subprocess.run([HELM, *arguments], env=environment, capture_output=True, text=True)


def template(
    *options: str | Path, values: Path | None = VALUES_CPU, kube_version: str = "1.37.0"
) -> subprocess.CompletedProcess[str]:
    """``helm template`` of the chart with the file of values, images, and then these options, which count more."""
    files: list[str | Path] = [] if values is None else ["--values", values]
    images = ["--set", f"model.image={MODEL_IMAGE}"]
    if values == VALUES_CPU:  # which names no image of its own
        images += ["--set", f"image={SERVER_IMAGE}"]
    return helm("template", RELEASE, CHART, "--kube-version", kube_version, *files, *images, *options)


def render(
    *options: str | Path, values: Path | None = VALUES_CPU, kube_version: str = "1.37.0"
) -> list[dict[str, Any]]:
    """The objects that ``template`` gives. Fails the test with Helm's message if it gives none."""
    done = template(*options, values=values, kube_version=kube_version)
    assert done.returncode == 0, done.stderr
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def one(objects: Sequence[dict[str, Any]], kind: str, name: str | None = None) -> dict[str, Any]:
    """The only object of this kind, or of this kind and name."""
    (found,) = [item for item in objects if item["kind"] == kind and name in (None, item["metadata"]["name"])]
    return found
