"""Benchmarks of this project; each is a command, run from the repository's root."""

import deployment_toolkit.library.openvino  # noqa: F401 before any module here imports OpenVINO
