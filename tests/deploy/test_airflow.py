from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.deploy import tools

pytestmark = tools.needed(tools.PYTHON)

COMMAND = "/opt/radiograph-scorer/.venv/bin/beam-pipeline"


def loaded(folder: Path, home: Path) -> dict[str, Any]:
    """What Airflow makes of the DAGs in `folder`."""
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    script = Path(__file__).with_name("airflow_dag.py")
    done = tools.run(tools.PYTHON, script, folder, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def dag(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    found = loaded(tools.DEPLOY / "airflow", tmp_path_factory.mktemp("airflow"))
    assert found["errors"] == []
    assert list(found["dags"]) == ["score_yesterday"]
    return found["dags"]["score_yesterday"]


def test_only_what_may_pass_is_tried_again(dag: dict[str, Any]) -> None:
    assert dag["retries"] == {"score": 2, "judge": 0}
    assert dag["after"] == {"score": [], "judge": ["score"]}
    assert all(dag["alarmed"])


def test_every_day_has_its_run_and_none_meets_another(dag: dict[str, Any]) -> None:
    assert dag["catchup"] is True
    assert dag["max_active_runs"] == 1


def test_the_command_line_scores_the_day_before(dag: dict[str, Any]) -> None:
    command = re.search(rf"^{COMMAND} .*$", dag["command"], re.MULTILINE)[0]
    program, subcommand, *argv = shlex.split(command)
    assert (program, subcommand) == (COMMAND, "score")
    asked = tools.parsed(argv)
    assert (asked.input, asked.date) == (("/srv/pacs-export/{date}",), "2026-11-20")


def bash(dag: dict[str, Any], command: str) -> subprocess.CompletedProcess[str]:
    return tools.run("bash", "-c", dag["command"].replace(COMMAND, command))


@pytest.mark.parametrize("code", [0, 2, 3, 4])
def test_what_another_try_would_not_change_is_handed_on(
    dag: dict[str, Any], code: int
) -> None:
    done = bash(dag, f"echo a log; exit_with() {{ return {code}; }}; exit_with")
    # BashOperator hands on the last line.
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, str(code))


@pytest.mark.parametrize("code", [1, 137, 143])
def test_a_run_that_failed_fails_the_task(dag: dict[str, Any], code: int) -> None:
    done = bash(dag, f"exit_with() {{ return {code}; }}; exit_with")
    assert done.returncode == code


def test_the_real_command_takes_the_rest_of_the_line(
    dag: dict[str, Any], tmp_path: Path
) -> None:
    real = f"{sys.executable} -m beam_pipeline"
    text = dag["command"].replace("/srv/", f"{tmp_path}/")
    done = tools.run("bash", "-c", text.replace(COMMAND, real))
    assert done.stdout.splitlines()[-1] == "4", done.stderr[-2000:]
    assert "pacs-export/2026-11-20" in done.stderr
