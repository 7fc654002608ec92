"""A real Prometheus for tests, on loopback and with a folder of its own. It scrapes servers of this host each second,
and forgets those that are taken from its list, as it forgets a deleted pod."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployment_toolkit.machine import LOOPBACK
from deployment_toolkit.process import child
from deployment_toolkit.server_access.ports import choose_free, listens

JOB, NAMESPACE = "triton", "test"
SCRAPE_S = 1
_DEADLINE_S = 60.0
_MISSING = not (shutil.which("prometheus") and shutil.which("promtool"))
needs_prometheus = pytest.mark.skipif(
    _MISSING and os.environ.get("CI") != "true",
    reason="no Prometheus: apt-get install prometheus (it need not run as a service)",
)
_PAST_PROXIES = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus at ``url``."""

    url: str
    _targets: Path

    def scrape(self, addresses: Mapping[str, str]) -> None:
        """Scrapes the servers with these addresses, HOST:PORT, from now on, and no others; each has the label ``pod``,
        its key here."""
        listed = [
            {"targets": [address], "labels": {"pod": pod, "namespace": NAMESPACE}} for pod, address in addresses.items()
        ]
        new = self._targets.with_suffix(".new")
        new.write_text(json.dumps(listed))
        new.replace(self._targets)

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series that the expression gives now. Fails the test if it is refused."""
        found = self._get("query", query=expression)["result"]
        return [(item["metric"], float(item["value"][1])) for item in found]

    def value(self, expression: str) -> float | None:
        """The value of an expression that gives one series or none."""
        found = self.query(expression)
        assert len(found) <= 1, f"{expression}: {found}"
        return found[0][1] if found else None

    def label_values(self, label: str, selector: str) -> list[str]:
        """Values of a label among the series that the selector has now or had in the last hours."""
        return list(self._get(f"label/{label}/values", **{"match[]": selector}))

    def firing(self) -> set[str]:
        """Names of the alerts that fire."""
        alerts = self._get("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def _get(self, what: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        with _PAST_PROXIES.open(f"{self.url}/api/v1/{what}?{query}", timeout=_DEADLINE_S) as response:
            return json.load(response)["data"]


@contextlib.contextmanager
def running_prometheus(folder: Path, rules: Path) -> Iterator[Prometheus]:
    """Yields a Prometheus with these rules, whose files are in ``folder``. It scrapes nothing yet."""
    port = choose_free({"web": None})["web"]
    targets = folder / "targets.json"
    targets.write_text("[]")
    config = {
        "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"},
        "rule_files": [str(rules)],
        "scrape_configs": [
            {"job_name": JOB, "file_sd_configs": [{"files": [str(targets)], "refresh_interval": f"{SCRAPE_S}s"}]}
        ],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    log = folder / "prometheus.log"
    command = ["prometheus", f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}"]
    with child([*command, f"--web.listen-address={LOOPBACK}:{port}"], stdout=log) as process:
        wait_until(lambda: listens(process.pid, [port]) or process.poll() is not None, "Prometheus's start")
        assert process.poll() is None, log.read_text()
        prometheus = Prometheus(f"http://{LOOPBACK}:{port}", targets)
        wait_until(lambda: _is_ready(prometheus.url), "Prometheus's readiness")
        yield prometheus


def wait_until(done: Callable[[], bool], what: str, deadline_s: float = _DEADLINE_S) -> float:
    """Returns, when ``done`` is true, how many seconds that took. Fails the test if it is not in time."""
    started = time.monotonic()
    while not done():
        assert time.monotonic() - started < deadline_s, f"{what}: not within {deadline_s:g} s"
        time.sleep(0.2)
    return time.monotonic() - started


def _is_ready(url: str) -> bool:
    try:
        with _PAST_PROXIES.open(f"{url}/-/ready", timeout=_DEADLINE_S):
            return True
    except OSError:
        return False
