"""Values that the Helm chart deploy/kubernetes refuses, and in which words."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cluster_tools import needs_cluster_tools, template
from tests.deploy.charts import CANARY, GATEWAY, NO_IMAGE, sets

pytestmark = needs_cluster_tools

REFUSED = (
    (sets(terminationGracePeriodSeconds="50"), "terminationGracePeriodSeconds is 50, but .* take 50: .*set it to more"),
    (sets(image=""), "image is not set: give the server's image"),
    (NO_IMAGE, "model is not set: give one of model.image, model.pvc and model.uri"),
    (sets(model__pvc="models"), "model.image and model.pvc are both set"),
    ([*NO_IMAGE, *sets(model__uri=":s3:a/b")], "networkPolicy.egress lets the pods reach nothing: add the store"),
    (sets(proxy__enabled="false"), "server.kind is embedded, .*: set proxy.enabled=true"),
    (sets(gpu__enabled="true"), "server.kind is embedded, whose image has no engine for GPUs"),
    (sets(autoscaling__maxReplicas="1"), "autoscaling.maxReplicas is 1, less than autoscaling.minReplicas, 2"),
    (sets(autoscaling__targetCPU="0", autoscaling__targetQueueMilliseconds="0"), "autoscaling has no target"),
    (sets(canary__weight="5"), "canary.weight is 5 without a canary"),
    (sets(canary__enabled="true"), "canary.model is not set"),
    ([*CANARY, *sets(canary__weight="5"), "--is-upgrade"], "there is no route that could divide requests"),
    ([*GATEWAY, *CANARY, *sets(canary__weight="5")], "at a first installation: a canary starts with canary.weight=0"),
    ([*CANARY, *sets(correctness__image="")], "a canary needs the gate's image"),
    (sets(gateway__enabled="true"), "gateway.enabled needs gateway.parentRefs"),
    ([*GATEWAY, *sets(gateway__grpcHostnames="null")], "share a hostname .*: give each a name of its own"),
    ([*GATEWAY, *sets(gateway__grpcHostnames="{*.example.com}")], r"hostname \(a.example.com and \*.example.com\)"),
    ([*GATEWAY, *sets(gateway__http="false", gateway__grpc="false")], "neither gateway.http nor gateway.grpc"),
    ([*CANARY, *sets(canary__replicas="9")], "canary.replicas is 9, more than autoscaling.maxReplicas, 8"),
    (sets(topologySpread__minDomains="3"), "topologySpread.minDomains counts only with"),
    ([*sets(model__delivery="volume"), "--kube-version", "1.32.0"], "image volumes, which Kubernetes has from 1.33 on"),
    ([*sets(), "--kube-version", "1.27.0"], "kubeVersion: >= 1.28.0-0"),
)  # fmt: skip


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_chart_refuses_in_one_line(options: list[str], message: str) -> None:
    done = template(*options)
    assert done.returncode == 1 and done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line and "--debug" not in line]
    assert len(lines) == 1 and re.search(message, lines[0]), done.stderr


SCHEMA_REFUSED = (
    (sets(modle__image="x"), "modle"),
    (sets(model__nmae="x"), "nmae"),
    (sets(resources__cpu="1500m"), "/resources/cpu"),
    (sets(resources__cpu="0"), "/resources/cpu"),
    (sets(resources__memory="4"), "/resources/memory"),
    (sets(model__image="registry.example.com/model"), "/model/image"),
    (sets(model__image="registry.example.com:5000/model"), "/model/image"),
    (sets(model__image="registry.example.com/model:latest"), "/model/image"),
    (sets(canary__weight="101"), "/canary/weight"),
    (sets(canary__weight="0.5"), "/canary/weight"),
    (sets(autoscaling__kind="vpa"), "/autoscaling/kind"),
    (sets(securityContext__runAsUser="0"), "/securityContext/runAsUser"),
    (sets(drain__preStopSeconds="-1"), "/drain/preStopSeconds"),
    (sets(model__name="a/b"), "/model/name"),
    (sets(correctness__atol="-1"), "/correctness/atol"),
    (sets(monitoring__errorRatio="low"), "/monitoring/errorRatio"),
    (sets(gateway__grpcHostnames="{}"), "/gateway/grpcHostnames/0"),
)  # fmt: skip


@pytest.mark.parametrize(("options", "place"), SCHEMA_REFUSED, ids=[" ".join(item[0][1:]) for item in SCHEMA_REFUSED])
def test_schema_names_what_it_refuses(options: list[str], place: str) -> None:
    done = template(*options)
    assert done.returncode == 1 and done.stdout == ""
    assert "values don't meet the specifications of the schema" in done.stderr and place in done.stderr


@settings(max_examples=12, deadline=None, derandomize=True, database=None)
@given(
    st.fixed_dictionaries(
        {
            "drain__preStopSeconds": st.integers(0, 60),
            "server__exitTimeoutSeconds": st.integers(1, 60),
            "terminationGracePeriodSeconds": st.integers(1, 200),
            "proxy__drainSeconds": st.integers(1, 10),
            "replicas": st.integers(1, 9),
            "autoscaling__enabled": st.sampled_from(["true", "false"]),
        }
    )
)
def test_times_are_in_relation_or_refused(values: dict[str, object]) -> None:
    done = template(*sets(**{name: str(value) for name, value in values.items()}))
    names = ("drain__preStopSeconds", "server__exitTimeoutSeconds", "proxy__drainSeconds")
    enough = int(str(values["terminationGracePeriodSeconds"])) > sum(int(str(values[name])) for name in names) + 10
    assert done.returncode == (0 if enough else 1), done.stderr
