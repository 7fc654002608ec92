"""The command's options and its page; tests/deploy/test_rollouts.py runs what it does."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.rollouts.__main__ import has_failed, main
from benchmarks.rollouts.chart import PodTemplate, pod_template
from benchmarks.rollouts.constant_load import Tally
from benchmarks.rollouts.episodes import RolloutEpisode
from benchmarks.rollouts.page import page
from benchmarks.rollouts.scaling_loop import ScalingStep
from deployment_toolkit.errors import UsageError

TEMPLATE = PodTemplate(("--exit-timeout-secs=20",), "", "/v2/health/ready", 15.0, 0.0, 20, 60, 1)


def test_missing_tools_and_wrong_settings_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no helm: run scripts/install_cluster_tools\.sh, or give --tools"):
        main(["--model", "model.onnx", "--tools", str(tmp_path)])
    (tmp_path / "bin").mkdir()
    for name in ("helm", "envoy"):
        (tmp_path / "bin" / name).touch()
    argv = ["--model", "model.onnx", "--tools", str(tmp_path)]
    with pytest.raises(UsageError, match="--settings replicas: write KEY=VALUE"):
        main([*argv, "--settings", "replicas"])
    with pytest.raises(UsageError, match="--values none.yaml: there is no such file"):
        main([*argv, "--values", "none.yaml"])
    with pytest.raises(UsageError, match="--speed more than 0"):
        main([*argv, "--speed", "0"])


def test_pause_that_is_not_simulated_is_no_pause_of_0() -> None:
    pause = {"exec": {"command": ["sleep", "15"]}}
    server = {
        "name": "triton",
        "args": ["--exit-timeout-secs=20"],
        "readinessProbe": {"httpGet": {"path": "/v2/health/ready"}},
        "lifecycle": {"preStop": pause},
    }
    pod = {"spec": {"containers": [server], "terminationGracePeriodSeconds": 60}}
    spec = {"strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}, "template": pod}
    deployment = {"kind": "Deployment", "metadata": {"name": "one"}, "spec": spec}
    with pytest.raises(UsageError, match=r"triton: the preStop action .*exec.* is not simulated here"):
        pod_template([deployment], "one")
    server["lifecycle"] = {"preStop": {"sleep": {"seconds": 15}}}
    assert pod_template([deployment], "one") == TEMPLATE


def test_page_tells_losses_and_the_steps_of_the_autoscaler() -> None:
    lossy = RolloutEpisode("restart", 4000, 3000, 1, 20, 5, 31.2, 0.25, 2, 6.04, 1, 15.0, note="20 × HTTP 503")
    canary = RolloutEpisode("canary", 400, 300, 0, 0, 0, 1.0, 0.1, 0, 0.0, 0, 15.0, share=0.05)
    steps = [ScalingStep(0, None, 2, 2), ScalingStep(15, 41.256, 2, 4), ScalingStep(30, 3.0, 4, 4)]
    text = page([lossy, canary], steps, TEMPLATE, 10.0, "this machine", "2026-11-30 13:14", "the command")
    assert "| restart | 4,020 | 3,005 | 20 | 5 | 1 | 0.25 |  | 2 | 6.0 | 1 | 31 |" in text
    assert "| canary | 400 | 300 | 0 | 0 | 0 | 0.10 | 5.0 % | 0 | 0.0 | 0 | 1 |" in text
    assert "\nthis machine; 2026-11-30 13:14 UTC.\nMade by `the command`\n" in text
    assert "- restart: 20 × HTTP 503" in text
    assert "preStop 15 s, exit timeout 20 s, grace period 60 s" in text
    assert text.endswith("| 15 | 41.26 | 2 | 4 |\n| 30 | 3.00 | 4 | 4 |\n")


def test_loss_with_the_charts_own_times_is_a_failure_whatever_they_are() -> None:
    lossy = RolloutEpisode("restart", 4000, 3000, 0, 20, 5, 31.2, 0.25, 2, 6.04, 1, 0.0)
    assert not has_failed([lossy], TEMPLATE), "preStop was 0 to show that the loss is seen"
    assert has_failed([lossy], replace(TEMPLATE, pre_stop_s=0.0))
    assert has_failed([replace(lossy, http_lost=0, grpc_lost=0, wrong=1, pre_stop_s=15.0)], TEMPLATE)


def test_tally_is_counted_from_an_earlier_one() -> None:
    before = Tally(Counter(HTTP=3), Counter(), Counter(HTTP=1), Counter({"HTTP 503": 1}), 0.5)
    now = Tally(Counter(HTTP=5, gRPC=2), Counter(), Counter(HTTP=4), Counter({"HTTP 503": 4}), 0.1)
    since = now.since(before)
    assert (since.answered, since.lost, since.longest_s) == (Counter(HTTP=2, gRPC=2), Counter(HTTP=3), 0.1)
    assert since.reasons == Counter({"HTTP 503": 3})
