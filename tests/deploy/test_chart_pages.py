"""The pages on the chart: every value is explained, and the commands for a canary are ones that Helm takes."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import yaml

from deployment_toolkit.checkout import ROOT
from tests.cluster_tools import CHART, needs_cluster_tools, one, render, template
from tests.deploy.charts import KEDA

DIGEST = "registry.example.com/wide-deep-model@sha256:"
PLACES = {
    "REGISTRY/wide-deep-model@sha256:OLD": DIGEST + 64 * "a",
    "REGISTRY/wide-deep-model@sha256:NEW": DIGEST + 64 * "b",
    "REGISTRY/": "registry.example.com/",
}
WHOLE = ("correctness.maxMetricLoss", "correctness.resources")  # maps that are explained as one value


def values(tree: dict[str, Any], path: str = "") -> Iterator[str]:
    for name, value in tree.items():
        place = f"{path}{name}"
        if isinstance(value, dict) and value and place not in WHOLE:
            yield from values(value, f"{place}.")
        else:
            yield place


def test_page_explains_every_value() -> None:
    told = set()
    for cell in re.findall(r"^\| (`.*?`) \|", (CHART / "README.md").read_text(), flags=re.MULTILINE):
        parent = ""
        for name in re.findall(r"`([\w.]+)`", cell):
            full = f"{parent}{name}" if name.startswith(".") else name
            parent = full.rpartition(".")[0] or full
            told.add(full)
    assert told == set(values(yaml.safe_load((CHART / "values.yaml").read_text())))


def test_schema_knows_every_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())

    def compare(part: dict[str, Any], tree: dict[str, Any], path: str) -> None:
        assert part["additionalProperties"] is False, path
        assert part["properties"].keys() - {"global"} == tree.keys(), path
        for name, value in tree.items():
            below = part["properties"][name]
            below = schema["$defs"][below["$ref"].rpartition("/")[2]] if "$ref" in below else below
            if isinstance(value, dict) and "properties" in below:
                compare(below, value, f"{path}{name}.")

    compare(schema, yaml.safe_load((CHART / "values.yaml").read_text()), "")


def upgrades(page: str) -> Iterator[list[str]]:
    """Options of each ``helm upgrade`` of a page, after the chart's folder."""
    text = (ROOT / "docs" / page).read_text()
    for block in re.findall(r"^```bash\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("helm upgrade"):
                for old, new in PLACES.items():
                    line = line.replace(old, new)
                words = shlex.split(line)
                yield words[words.index("deploy/kubernetes") + 1 :]


@needs_cluster_tools
def test_commands_of_the_page_lead_from_one_model_to_the_next() -> None:
    install, *later = upgrades("kubernetes.md")
    kept = [word for word in install if word not in ("--wait", "-f", "deploy/kubernetes/values-cpu.yaml")]
    seen = []
    for words in [[], *later]:
        assert not words or "--reuse-values" in words
        kept += [word for word in words if word not in ("--wait", "--reuse-values")]
        done = template(*kept, "--is-upgrade")
        assert done.returncode == 0, done.stderr
        objects = [item for item in yaml.safe_load_all(done.stdout) if item]
        weights = {end["name"]: end["weight"] for end in one(objects, "HTTPRoute")["spec"]["rules"][0]["backendRefs"]}
        deployments = {item["metadata"]["name"]: item for item in objects if item["kind"] == "Deployment"}
        models = {
            name: item["spec"]["template"]["spec"]["initContainers"][0]["image"][-1]
            for name, item in deployments.items()
        }
        seen.append((models.get("wide-deep"), models.get("wide-deep-canary"), weights["wide-deep-canary"]))
    assert seen == [
        ("a", None, 0),  # installed
        ("a", "b", 0),
        ("a", "b", 5),
        ("b", "b", 5),  # promoted
        ("b", "b", 0),
        ("b", None, 0),
    ]


@needs_cluster_tools
def test_adapters_rule_asks_what_keda_asks() -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    (block,) = [text for text in re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL) if "Rules" in text]
    (rule,) = yaml.safe_load(block)["externalRules"]
    hpa = one(render(), "HorizontalPodAutoscaler")["spec"]["metrics"][0]["external"]["metric"]
    assert rule["name"]["as"] == hpa["name"]
    labels = {"namespace": "default", **hpa["selector"]["matchLabels"]}
    told = ",".join(f'{name}="{value}"' for name, value in labels.items())
    asked = one(render(*KEDA), "ScaledObject")["spec"]["triggers"][0]["metadata"]["query"]
    assert rule["metricsQuery"].replace("<<.LabelMatchers>>", told) == asked


@needs_cluster_tools
def test_command_of_the_checklist_is_taken() -> None:
    (words,) = upgrades("kubernetes-checklist.md")
    done = template(
        *[word for word in words if word not in ("--dry-run=server", "-f", "deploy/kubernetes/values-cpu.yaml")]
    )
    assert done.returncode == 0, done.stderr
