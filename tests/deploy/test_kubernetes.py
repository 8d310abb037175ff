from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy import tools

FILE = tools.DEPLOY / "kubernetes" / "cronjob.yaml"


def validate(path: Path) -> tuple[int, str]:
    """Held against Kubernetes' own schemas; an unknown field is an error."""
    done = tools.run(tools.PYTHON.with_name("kubernetes-validate"), "--strict", path)
    return done.returncode, done.stdout + done.stderr


@tools.needed(tools.PYTHON)
def test_kubernetes_schemas_accept_it() -> None:
    code, said = validate(FILE)
    assert code == 0, said
    assert "cronjob/radiograph-scorer" in said


@tools.needed(tools.PYTHON)
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("concurrencyPolicy:", "concurencyPolicy:"),
        ("backoffLimit: 2", "backoffLimit: two"),
        ("fsGroup: 10001", "fsGroupID: 10001"),
        ("operator: In", "operators: In"),
    ],
)
def test_kubernetes_schemas_would_say_what_is_wrong(
    tmp_path: Path, right: str, wrong: str
) -> None:
    text = FILE.read_text("utf-8")
    assert right in text
    broken = tmp_path / "cronjob.yaml"
    broken.write_text(text.replace(right, wrong), "utf-8")
    assert validate(broken)[0] == 1


@pytest.fixture
def job() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text("utf-8"))["spec"]["jobTemplate"]["spec"]


def test_the_command_line_is_one_that_score_understands(job: dict[str, Any]) -> None:
    [container] = job["template"]["spec"]["containers"]
    version = re.search(r'version="([^"]+)"', (tools.ROOT / "setup.py").read_text())[1]
    assert container["image"].endswith(f"/radiograph-scorer:{version}")
    assert container["command"] == ["python", "-m", "beam_pipeline", "score"]
    asked = tools.parsed(container["args"])
    mounts = {each["mountPath"]: each for each in container["volumeMounts"]}
    assert mounts["/export"]["readOnly"]
    assert asked.input == ("/export/{date}",)
    assert asked.output in mounts
    assert str(Path(asked.pseudonym_key_file).parent) in mounts


def test_what_no_second_try_changes_is_not_tried_again(job: dict[str, Any]) -> None:
    disruption, exit_codes = job["podFailurePolicy"]["rules"]
    assert disruption["action"] == "Ignore"
    assert exit_codes["action"] == "FailJob"
    assert exit_codes["onExitCodes"]["values"] == [2, 3, 4]
    # Which Kubernetes asks for where there is such a policy.
    assert job["template"]["spec"]["restartPolicy"] == "Never"
