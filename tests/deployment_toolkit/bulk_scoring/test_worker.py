"""A worker refuses what is not the plan's, as another host may have it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from deployment_toolkit.bulk_scoring.bad_rows import BadRows
from deployment_toolkit.bulk_scoring.options import ScoringOptions
from deployment_toolkit.bulk_scoring.plan import ScoringPlan, read_plan, write_plan
from deployment_toolkit.bulk_scoring.worker import PartResult, ScoringJob, score_part
from deployment_toolkit.cluster import ClusterOptions
from deployment_toolkit.errors import DataError, ModelError
from deployment_toolkit.options.command_line import DATALOADER, read_command_line
from deployment_toolkit.server_access.access_options import AccessOptions
from score_dataset import main
from tests.scored import SmallData, make_small_data


@pytest.fixture
def data(tmp_path: Path) -> SmallData:
    return make_small_data(tmp_path / "small", files=1, rows=500)


@pytest.fixture
def job(data: SmallData, tmp_path: Path) -> ScoringJob:
    argv = [*data.options(), "--output-dir", str(tmp_path / "scores")]
    main(argv)
    command = read_command_line("", argv, [ScoringOptions, ClusterOptions, AccessOptions], [DATALOADER])
    return ScoringJob(command.from_anywhere.portable, plan_in(tmp_path / "scores").id)


def plan_in(folder: Path) -> ScoringPlan:
    plan = read_plan(folder)
    assert plan is not None
    return plan


def test_part_is_scored_again_with_the_same_bytes(job: ScoringJob, tmp_path: Path) -> None:
    part = tmp_path / "scores" / "part-00001.parquet"
    before, made = part.read_bytes(), part.stat().st_ino
    assert score_part(job, 1) == PartResult(250, 0)
    assert part.read_bytes() == before and part.stat().st_ino != made


def test_other_data_models_and_plans_are_refused(job: ScoringJob, data: SmallData, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has another plan by now: another command has begun anew there"):
        score_part(dataclasses.replace(job, plan_id="other"), 0)
    slow, model = (data.folder / "slow.py"), data.model
    for path, error in ((slow, DataError), (model, ModelError)):
        right = path.read_bytes()
        path.write_bytes(right + b"\n")
        with pytest.raises(error, match=f"{path.name} is not the (file|model) of the plan here"):
            score_part(job, 0)
        path.write_bytes(right)
    table = pq.read_table(data.files[0])
    assert score_part(job, 0) == PartResult(250, 0)
    pq.write_table(table.slice(1), data.files[0], row_group_size=250)
    with pytest.raises(DataError, match=r"rows-0\.parquet is not the file of the plan"):
        score_part(job, 0)
    with pytest.raises(DataError, match=r"this host sees no .*nowhere/_plan\.json: all workers need the folder"):
        score_part(ScoringJob({**job.values, "output_dir": tmp_path / "nowhere"}, job.plan_id), 0)


def test_part_of_an_earlier_plan_that_ends_late_is_dropped(
    job: ScoringJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "scores"
    part = folder / "part-00001.parquet"
    made = part.stat().st_ino

    def begin_anew(bad: BadRows, path: Path) -> None:
        write_plan(folder, dataclasses.replace(plan_in(folder), id="another"))

    monkeypatch.setattr(BadRows, "write", begin_anew)
    with pytest.raises(DataError, match="has another plan by now"):
        score_part(job, 1)
    assert part.stat().st_ino == made and not list(folder.glob(".*"))
