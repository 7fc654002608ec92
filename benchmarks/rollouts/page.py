"""The page of the rollouts."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.rollouts.chart import PodTemplate
from benchmarks.rollouts.episodes import RolloutEpisode
from benchmarks.rollouts.pods import ENDPOINT_S
from benchmarks.rollouts.scaling_loop import SYNC_S, ScalingStep

_MOST_STEPS = 60


def page(
    episodes: Sequence[RolloutEpisode],
    steps: Sequence[ScalingStep],
    template: PodTemplate,
    speed: float,
    machine: str,
    date: str,
    command: str,
) -> str:
    """Markdown: each episode with its requests, then the steps of the autoscaler at which something changed."""
    lines = ["# Rollouts", "", f"{machine}; {date} UTC.", f"Made by `{command}`", ""]
    lines += [
        f"The chart's times: preStop {_pre_stop(template)}, exit timeout {template.exit_timeout_s} s, grace period "
        f"{template.grace_s:g} s, maxSurge {template.surge}. A pod's endpoint is gone {ENDPOINT_S:g} s after its "
        "deletion. Nothing retries, neither the gateway nor a client.",
        "",
        "| episode | requests HTTP | gRPC | **lost** HTTP | **lost** gRPC | wrong | longest, s | canary's share | pods "
        "ended | slowest end, s | SIGKILL | seconds |",
        f"| --- |{' ---: |' * 11}",
    ]
    for one in episodes:
        share = "" if one.share is None else f"{100 * one.share:.1f} %"
        asked = (one.http_answered + one.http_lost, one.grpc_answered + one.grpc_lost)
        lines.append(
            f"| {one.name} | {asked[0]:,} | {asked[1]:,} | {one.http_lost:,} | {one.grpc_lost:,} | {one.wrong:,} | "
            f"{one.longest_request_s:.2f} | {share} | {one.pods_ended} | {one.slowest_end_s:.1f} | {one.killed} | "
            f"{one.seconds:.0f} |"
        )
    lines += ["", *(f"- {one.name}: {one.note}" for one in episodes if one.note)]
    if steps:
        told = f"a look each {SYNC_S:g} s of a clock that runs {speed:g} times as fast as this machine's"
        lines += ["", f"The simulated autoscaler ({told}) when it changed the number of servers, and at the end:", ""]
        lines += ["| at, s | in the queue, ms | servers | decided |", "| ---: | ---: | ---: | ---: |"]
        shown = [one for one in steps if one.decided != one.replicas][:_MOST_STEPS]
        for step in shown if shown[-1:] == [steps[-1]] else [*shown, steps[-1]]:
            metric = "" if step.metric is None else f"{step.metric:.2f}"
            lines.append(f"| {step.at_s:.0f} | {metric} | {step.replicas} | {step.decided} |")
    return "\n".join([*lines, ""])


def _pre_stop(template: PodTemplate) -> str:
    if not template.proxy:
        return f"{template.pre_stop_s:g} s"
    return f"{template.proxy_pre_stop_s:g} s (the pod's proxy), {template.pre_stop_s:g} s (the server)"
