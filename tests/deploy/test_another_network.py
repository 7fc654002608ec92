from __future__ import annotations

import re
from pathlib import Path

from deployment_toolkit.checkout import ROOT
from tests.cluster_tools import needs_cluster_tools, one, render
from tests.deploy.charts import TOOLS_IMAGE, container, sets


@needs_cluster_tools
def test_chart_takes_the_values_of_the_page(tmp_path: Path) -> None:
    """The gate has the other network's name, module and limits, and none of Wide & Deep's."""
    page = (ROOT / "docs" / "another-network.md").read_text()
    (values,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    path = tmp_path / "values.yaml"
    path.write_text(values)
    objects = render("--values", path, *sets(correctness__image=TOOLS_IMAGE))
    gate = one(objects, "Pod")["spec"]
    assert "--model-name=DCN" in container(gate, "grpc")["command"]
    compare = container(gate, "compare")["command"]
    (module,) = [option.partition("=")[2] for option in compare if option.startswith("--metrics=")]
    assert (ROOT / module).is_file()
    limits = {option for option in compare if option.startswith("--max-metric-loss=")}
    assert limits == {"--max-metric-loss=rmse=0.003", "--max-metric-loss=ndcg10=0.003"}
    server = one(objects, "Deployment")["spec"]["template"]["spec"]
    assert container(server, "triton")["readinessProbe"]["httpGet"]["path"] == "/v2/models/DCN/ready"
