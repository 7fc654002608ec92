"""Groups of tests: one worker runs the tests of a group, in their order."""

from __future__ import annotations

import pytest

from deployment_toolkit.checkout import ROOT

_LONGEST = (
    *("containers", "runs", "measurements", "default ports", "experiments"),
    *("tests/deployment_toolkit/cpp_host/test_host.py", "tests/benchmarks/test_faults.py"),
    *("tests/deployment_toolkit/bulk_scoring/test_killed.py", "tests/deploy/test_monitoring.py"),
    *("tests/deploy/test_rollouts.py", "tests/deployment_toolkit/rollout/test_rollout.py"),
    *("tests/navigator/other_converter/test_conversion.py", "tests/examples/dcn/test_example.py"),
    *("tests/benchmarks/test_peers_run.py", "tests/deployment_toolkit/triton_server/test_main.py"),
    *("tests/runner/test_quick.py", "tests/test_ensemble.py", "tests/test_style.py"),
)
_MEASURING = "triton_performance_runner"
_FILES = {
    "test_readme.py": "default ports",
    "test_original_commands.py": "default ports",
    "test_failures.py": "experiments",
    "test_reduced_precision.py": "experiments",
    "test_remote_run.py": "experiments",
    "test_arrivals.py": "measurements",
    "test_points.py": "measurements",
    "test_run_performance_on_triton.py": "measurements",
    "test_slowed_server.py": "measurements",
}


def group_of(item: pytest.Item) -> str:
    """Name of the group of tests that one worker runs. Usually these are the tests of one file. Tests that share whole
    runs are one group, and so are those that share a data set and its checkpoint, the files whose commands use the
    default ports, those that do little but measure, for which they take turns, and all tests that share the container
    engine and its images."""
    fixtures = getattr(item, "fixturenames", ())
    if "container_engine" in fixtures:
        return "containers"
    if "finished_runs" in fixtures:
        return "runs"
    if _MEASURING in item.path.parts:
        return "measurements"
    return _FILES.get(item.path.name, str(item.path.relative_to(ROOT)))


def place_of(group: str) -> int:
    """Place of a group among the groups: those that take longest come first."""
    return _LONGEST.index(group) if group in _LONGEST else len(_LONGEST)
