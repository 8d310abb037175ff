from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from beam_pipeline import metrics_file
from beam_pipeline.ending import Ending, ExitCode
from tests.beam_pipeline.test_metrics_file import RECORD
from tests.deploy import tools

pytestmark = tools.needed("promtool")

RULES = tools.DEPLOY / "prometheus" / "radiograph-scorer.rules.yml"
LABELS = '{schedule="ward",instance="box"}'


def test_promtool_finds_no_fault_in_the_metrics(tmp_path: Path) -> None:
    path = tmp_path / "ward.prom"
    metrics_file.write(path, Ending(exit_code=ExitCode.COMPLETE, record=RECORD))
    done = tools.run("promtool", "check", "metrics", input=path.read_text("utf-8"))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_promtool_accepts_the_rules() -> None:
    done = tools.run("promtool", "check", "rules", "--lint=all", RULES)
    assert done.returncode == 0, done.stderr


def test_the_rules_ask_for_metrics_that_there_are(tmp_path: Path) -> None:
    path = tmp_path / "ward.prom"
    metrics_file.write(path, Ending(exit_code=ExitCode.COMPLETE, record=RECORD))
    written = set(re.findall(r"^radiograph_scorer_\w+", path.read_text(), re.MULTILINE))
    asked = re.findall(r"radiograph_scorer_\w+", RULES.read_text("utf-8"))
    assert set(asked) <= written


def series(name: str, values: str, labels: str = LABELS) -> dict[str, str]:
    return {"series": f"radiograph_scorer_{name}{labels}", "values": values}


ENDED = series("last_run_timestamp_seconds", "0+0x400")
SCORED = series("last_success_timestamp_seconds", "0+0x400")
CASES = {
    "not scored": ([SCORED], "27h", {"RadiographsNotScored", "RadiographScorerSilent"}),
    "silent": ([ENDED], "27h", {"RadiographScorerSilent"}),
    "never heard of": ([], "1h", {"RadiographScorerSilent"}),
    "failed": (
        [ENDED, series("exit_code", "1+0x400")],
        "1h",
        {"RadiographScorerFailed"},
    ),
    "stopped": ([ENDED, series("exit_code", "143+0x400")], "1h", set()),
    "limit": (
        [
            ENDED,
            series("exit_code", "3+0x400"),
            series(
                "limit_broken",
                "1+0x400",
                '{schedule="ward",instance="box",limit="min_inputs"}',
            ),
        ],
        "1h",
        {"RadiographScorerLimitBroken"},
    ),
    "shrank": (
        [ENDED, series("listed_files", "1000+0x200 100+0x200")],
        "22h",
        {"RadiographExportShrank"},
    ),
    "well": (
        [
            ENDED,
            SCORED,
            series("exit_code", "0+0x400"),
            series("listed_files", "9+0x400"),
        ],
        "25h",
        set(),
    ),
}


@pytest.mark.parametrize(("given", "when", "alarms"), CASES.values(), ids=CASES)
def test_an_alarm_goes_off_when_it_should(
    tmp_path: Path, given: list, when: str, alarms: set[str]
) -> None:
    firing = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in alarms]
    asked = {
        "expr": "count by (alertname) (ALERTS{alertstate='firing'})",
        "eval_time": when,
        "exp_samples": firing,
    }
    case = {"interval": "5m", "input_series": given, "promql_expr_test": [asked]}
    document = {"rule_files": [str(RULES)], "evaluation_interval": "5m"}
    file = tmp_path / "case.yml"
    file.write_text(yaml.safe_dump({**document, "tests": [case]}), "utf-8")
    done = tools.run("promtool", "test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr
