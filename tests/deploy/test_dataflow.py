"""The Flex Template: its parameters are the flags, and its launcher reaches `score`."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipeline import options
from tests import radiographs

FOLDER = Path(__file__).parents[2] / "deploy" / "dataflow"


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


metadata = module("metadata")
launch = module("launch")
WRITTEN = json.loads((FOLDER / "metadata.json").read_text("utf-8"))
PARAMETERS = {each["name"]: each for each in WRITTEN["parameters"]}


def test_the_metadata_is_that_of_the_flags_there_are() -> None:
    assert metadata.document() == WRITTEN, "run python deploy/dataflow/metadata.py"


def test_every_flag_is_a_parameter_or_is_about_what_comes_after_the_run() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    options.add_arguments(parser)
    flags = {action.option_strings[0][2:] for action in parser._actions}
    assert flags - set(PARAMETERS) == set(metadata.AFTER_THE_RUN)
    known = PipelineOptions().get_all_options()
    assert set(PARAMETERS) - flags <= set(known)
    required = {name for name in PARAMETERS if not PARAMETERS[name].get("isOptional")}
    assert required == {"output", "sdk_container_image"}
    assert all(each["label"] and each["helpText"] for each in WRITTEN["parameters"])


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("input", "gs://export/2026-11-20/**", "/exports/**"),
        ("output", "gs://results", "results"),
        ("threshold", "0.35", "1.5"),
        ("threshold", "1", "2"),
        ("batch_size", "64", "0"),
        ("max_seconds", "90.5", "-1"),
        ("deidentify", "true", "yes"),
        ("run_id", "night-7", "../7"),
        ("sdk_container_image", "europe-west4-docker.pkg.dev/p/r/scorer:1", "scorer"),
        (
            "dataflow_service_options",
            "worker_accelerator=type:nvidia-l4;count:1;install-nvidia-driver",
            "worker_accelerator=nvidia-l4",
        ),
        ("flexrs_goal", "COST_OPTIMIZED", "CHEAP"),
    ],
)
def test_a_bad_value_does_not_reach_the_launcher(
    name: str, good: str, bad: str
) -> None:
    [regex] = PARAMETERS[name]["regexes"]
    assert re.fullmatch(regex, good)
    assert not re.fullmatch(regex, bad)


def test_a_switch_is_on_only_where_it_is_true() -> None:
    given = ["--input=gs://a/**", "--rescore=true", "--deidentify=false"]
    given += ["--job_name=tonight", "--launcher_own=7"]
    assert launch.arguments(given) == [
        "--input=gs://a/**",
        "--rescore",
        "--job_name=tonight",
        "--",
        "--launcher_own=7",
    ]


def test_the_launcher_leaves_a_job_description_and_goes(tmp_path: Path) -> None:
    """What Google's launcher starts, but with a service and files on this machine."""
    (tmp_path / "in").mkdir()
    chest = radiographs.to_bytes(radiographs.dicom(radiographs.chest(0.4)))
    (tmp_path / "in" / "chest.dcm").write_bytes(chest)
    parameters = {
        "input": tmp_path / "in",
        "output": tmp_path / "out",
        "deidentify": "false",
        "sdk_container_image": "example.org/scorer:1",
        "runner": "DataflowRunner",
        "project": "my-project",
        "region": "europe-west4",
        "job_name": "tonight",
        "temp_location": tmp_path,
        "template_location": tmp_path / "job.json",
        "dataflow_endpoint": "http://localhost:9",
        "no_such_flag_of_beams": "7",
    }
    flags = [f"--{name}={value}" for name, value in parameters.items()]
    done = subprocess.run(
        [sys.executable, FOLDER / "launch.py", *flags, "--no_auth"],
        env={**os.environ, "NO_GCE_CHECK": "true"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "nothing has run yet" in done.stdout
    job = json.loads((tmp_path / "job.json").read_text())
    assert job["name"] == "tonight"
    sent = job["environment"]["sdkPipelineOptions"]["options"]
    assert sent["no_such_flag_of_beams"] in ("7", 7)
