"""What Dataflow is told: flags refused or added, and the job's description itself.

Nothing is sent: a service on localhost makes Beam write the description to a file.
"""

from __future__ import annotations

import argparse
import base64
import bz2
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2

from beam_pipeline import dataflow, options, runner
from beam_pipeline.__main__ import main
from beam_pipeline.options import UsageError
from tests import radiographs

IMAGE = "europe-west4-docker.pkg.dev/my-project/radiographs/scorer:0.4.0"
GPU = "worker_accelerator=type:nvidia-l4;count:1;install-nvidia-driver"
GIVEN = {
    "input": "gs://export/2026-11-20/**",
    "output": "gs://results",
    "runner": "DataflowRunner",
    "project": "my-project",
    "region": "europe-west4",
    "temp_location": "gs://results/tmp",
    "sdk_container_image": IMAGE,
}


def checked(*flags: str, **changed: str | None) -> dict:
    """All of Beam's options after the check of a good command with some changes."""
    given = {**GIVEN, **changed}
    argv = [f"--{name}={value}" for name, value in given.items() if value is not None]
    parser = argparse.ArgumentParser(allow_abbrev=False)
    options.add_arguments(parser)
    arguments, beam_flags = parser.parse_known_args([*argv, "--run_id=Night_7", *flags])
    beam_options = PipelineOptions(beam_flags)
    runner.check(options.scoring_options(arguments, beam_flags), beam_options)
    return beam_options.get_all_options()


def test_what_was_left_out_is_added_and_said(caplog: pytest.LogCaptureFixture) -> None:
    found = checked()
    expected = {
        "sdk_location": "container",
        "save_main_session": False,
        "number_of_worker_harness_threads": 2,
        "machine_type": "n2-standard-4",
        "disk_size_gb": None,
        "max_num_workers": 10,
        "job_name": "score-night-7",
    }
    assert {name: found[name] for name in expected} == expected
    assert "no_use_multiple_sdk_containers" in found["experiments"]
    said = {record.getMessage() for record in caplog.records}
    assert "Added for Dataflow: --machine_type=n2-standard-4" in said
    assert "Added for Dataflow: --experiments=no_use_multiple_sdk_containers" in said


def test_a_gpu_brings_its_machine_and_a_disk_for_the_image() -> None:
    found = checked(dataflow_service_options=GPU)
    assert (found["machine_type"], found["disk_size_gb"]) == ("g2-standard-8", 50)


def test_what_was_said_stays(caplog: pytest.LogCaptureFixture) -> None:
    found = checked(
        "--num_workers=40",
        "--no_save_main_session",
        dataflow_service_options=GPU,
        machine_type="g2-standard-16",
        disk_size_gb="80",
        number_of_worker_harness_threads="3",
        sdk_location="container",
        job_name="tonight",
        experiments="no_use_multiple_sdk_containers,"
        "disable_logging_submission_environment",
    )
    assert (found["machine_type"], found["disk_size_gb"]) == ("g2-standard-16", 80)
    assert (found["job_name"], found["max_num_workers"]) == ("tonight", None)
    assert found["number_of_worker_harness_threads"] == 3
    assert not caplog.records


REFUSED = [
    ({"project": None}, "needs --project"),
    ({"region": None}, "needs --region"),
    ({"temp_location": None}, "needs --temp_location"),
    ({"temp_location": "/tmp/here"}, "needs a gs:// path"),
    ({"staging_location": "/tmp/here"}, "--staging_location=/tmp/here"),
    ({"input": "/exports/**"}, "--input /exports/.* is on this machine"),
    ({"output": "results"}, "--output .*results is on this machine"),
    ({"model": "models/mine"}, "--model models/mine is on this machine"),
    ({"metadata": "views.csv"}, "--metadata views.csv is on this machine"),
    ({"pseudonym_key_file": "/etc/key"}, "--pseudonym_key_file /etc/key is on this"),
    ({"sdk_container_image": None}, "needs --sdk_container_image"),
    ({"setup_file": "./setup.py"}, "--setup_file: .*build it into the image"),
    ({"requirements_file": "r.txt"}, "--requirements_file: "),
    ({"extra_package": "x.whl"}, "--extra_packages: "),
    ({"sdk_location": "beam.tar.gz"}, "the image has Beam"),
    ({"s3_secret_access_key": "hunter2"}, "--s3_secret_access_key: .*shown to all"),
    ({"azure_connection_string": "hunter2"}, "--azure_connection_string: "),
]
BAD_GPU = [
    ("type:nvidia-l4;count:1", "install-nvidia-driver is missing"),
    ("type:nvidia-l4;install-nvidia-driver", "count:1 or more"),
    ("type:nvidia-l4;count:0;install-nvidia-driver", "count:1 or more"),
    ("count:1;install-nvidia-driver", "type:nvidia-… names"),
    ("type:l4;count:1;install-nvidia-driver", "type:nvidia-… names"),
    ("type:nvidia-l4;count:1;install-nvidia-driver;mps", "'mps' is unknown"),
]
UNFIT_FOR_GPU = [
    ({"flexrs_goal": "COST_OPTIMIZED"}, "FlexRS has no GPUs"),
    ({"experiments": "enable_prime"}, "Dataflow Prime has no worker_accelerator"),
    (
        {"dataflow_service_options": f"enable_prime,{GPU}"},
        "Dataflow Prime has no worker_accelerator",
    ),
    (
        {"resource_hints": "accelerator=type:nvidia-l4;count:1"},
        "exclude each other",
    ),
    ({"machine_type": "n1-standard-8"}, "carries no nvidia-l4; .*g2-"),
]


@pytest.mark.parametrize(("changed", "message"), REFUSED)
def test_it_is_refused_before_anything_is_submitted(
    changed: dict[str, str | None], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as refusal:
        checked(**changed)
    assert "hunter2" not in str(refusal.value)


def test_metrics_do_not_tell_of_a_night_that_has_not_begun() -> None:
    with pytest.raises(UsageError, match="not begun"):
        checked("--metrics_file=/tmp/a.prom", template_location="gs://results/job.json")


def test_the_main_session_stays_here() -> None:
    with pytest.raises(UsageError, match="--save_main_session"):
        checked("--save_main_session")


@pytest.mark.parametrize(("accelerator", "message"), BAD_GPU)
def test_a_malformed_accelerator_is_refused_with_an_example(
    accelerator: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as refusal:
        checked(dataflow_service_options=f"worker_accelerator={accelerator}")
    assert GPU in str(refusal.value)


@pytest.mark.parametrize(("changed", "message"), UNFIT_FOR_GPU)
def test_what_excludes_a_gpu_is_refused(changed: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        checked(**{"dataflow_service_options": GPU, **changed})


def test_an_accelerator_among_the_experiments_is_refused() -> None:
    with pytest.raises(UsageError, match="no experiment any more"):
        checked(experiments=GPU)


@pytest.mark.parametrize(
    ("gpu", "machine"),
    [
        ("nvidia-l4", "g2-standard-24"),
        ("nvidia-tesla-t4", "n1-highmem-4"),
        ("nvidia-tesla-a100", "a2-highgpu-1g"),
        ("nvidia-a100-80gb", "a2-ultragpu-1g"),
        ("nvidia-h100-80gb", "a3-highgpu-1g"),
    ],
)
def test_each_gpu_goes_with_its_family_of_machines(gpu: str, machine: str) -> None:
    service = f"worker_accelerator=type:{gpu};count:1;install-nvidia-driver:5xx"
    found = checked(dataflow_service_options=service, machine_type=machine)
    assert found["machine_type"] == machine


def test_a_gpu_that_needs_a_choice_of_machine_says_which() -> None:
    service = "worker_accelerator=type:nvidia-tesla-a100;count:1;install-nvidia-driver"
    with pytest.raises(UsageError, match=r"needs --machine_type .* begins with a2-"):
        checked(dataflow_service_options=service)


def test_a_gpu_that_is_new_is_taken_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = "worker_accelerator=type:nvidia-z9;count:1;install-nvidia-driver"
    found = checked(dataflow_service_options=service, machine_type="z9-standard-8")
    assert found["machine_type"] == "z9-standard-8"
    assert "nvidia-z9 is none of the GPUs known here" in caplog.text


def test_processes_share_a_gpu_only_with_one_reader_each() -> None:
    shared = f"{GPU};use_nvidia_mps"
    found = checked(read_workers="1", dataflow_service_options=shared)
    assert "no_use_multiple_sdk_containers" not in found["experiments"]
    with pytest.raises(UsageError, match="give --read_workers 1"):
        checked(dataflow_service_options=shared)
    with pytest.raises(UsageError, match="leaves one process"):
        checked(
            read_workers="1",
            dataflow_service_options=shared,
            experiments="no_use_multiple_sdk_containers",
        )
    with pytest.raises(UsageError, match="one GPU a machine"):
        checked(
            read_workers="1",
            dataflow_service_options=shared.replace("count:1", "count:2"),
        )


def test_flexrs_is_for_cpus() -> None:
    assert checked(flexrs_goal="COST_OPTIMIZED")["flexrs_goal"] == "COST_OPTIMIZED"


def test_the_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "apache_beam.runners.dataflow.internal.apiclient"
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=r"radiograph-scorer\[gcp\]"):
        checked()


def test_another_python_than_the_images_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dataflow, "IMAGE_PYTHON", (3, 10))
    with pytest.raises(UsageError, match=r"Python 3\.11 and the image has 3\.10"):
        checked()


def test_other_runners_are_left_alone() -> None:
    assert checked(runner=None, project=None)["job_name"] is None


def test_a_refusal_comes_first_and_exits_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--runner=dataflow", "--input=gs://nowhere/**", "--output=gs://nowhere"]
    assert main(["score", *flags]) == 2
    assert "beam_pipeline: Dataflow needs --project" in capsys.readouterr().err


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what would be sent for a command with a GPU and a key."""
    folder = tmp_path_factory.mktemp("dataflow")
    (folder / "in").mkdir()
    dataset = radiographs.dicom(radiographs.chest(0.4), StudyInstanceUID="1.2.3")
    (folder / "in" / "chest.dcm").write_bytes(radiographs.to_bytes(dataset))
    (folder / "key").write_text("correct horse battery staple, twice over")
    local = {
        "input": folder / "in",
        "output": folder / "out",
        "temp_location": folder,
        "staging_location": folder,
        "template_location": folder / "job.json",
    }
    flags = [f"--{name}={value}" for name, value in {**GIVEN, **local}.items()]
    flags += ["--dataflow_endpoint=http://localhost:9", "--no_auth"]
    flags += [f"--dataflow_service_options={GPU}"]
    flags += [f"--pseudonym_key_file={folder / 'key'}", "--run_id=Night_7"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_GCE_CHECK", "true")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2-of-the-environment")
        assert main(["score", *flags]) == 0
    return folder


@pytest.fixture(scope="module")
def job(described: Path) -> dict:
    return json.loads((described / "job.json").read_text())


@pytest.fixture(scope="module")
def pipeline(described: Path) -> beam_runner_api_pb2.Pipeline:
    return beam_runner_api_pb2.Pipeline.FromString(
        (described / "pipeline.pb").read_bytes()
    )


def test_the_job_runs_in_one_process_of_our_image_on_a_gpu_machine(job: dict) -> None:
    assert (job["name"], job["type"]) == ("score-night-7", "JOB_TYPE_BATCH")
    environment = job["environment"]
    assert environment["serviceOptions"] == [GPU]
    assert "no_use_multiple_sdk_containers" in environment["experiments"]
    [workers] = environment["workerPools"]
    assert workers["machineType"] == "g2-standard-8"
    assert workers["diskSizeGb"] == 50
    assert workers["numThreadsPerWorker"] == 2
    assert workers["autoscalingSettings"] == {"maxNumWorkers": 10}
    assert workers["workerHarnessContainerImage"] == IMAGE
    [container] = workers["sdkHarnessContainerImages"]
    assert container["containerImage"] == IMAGE


def test_nothing_is_staged_and_nothing_is_installed_at_start(
    described: Path, job: dict, pipeline: beam_runner_api_pb2.Pipeline
) -> None:
    assert "packages" not in job["environment"]["workerPools"][0]
    for environment in pipeline.components.environments.values():
        assert not environment.dependencies
    sent = {path.name for path in described.iterdir()} - {"in", "key", "out"}
    assert sent == {"job.json", "pipeline.pb"}


def test_one_environment_keeps_the_stages_fused(
    pipeline: beam_runner_api_pb2.Pipeline,
) -> None:
    [environment] = pipeline.components.environments.values()
    assert not environment.resource_hints


def test_the_stages_are_those_of_the_picture(
    pipeline: beam_runner_api_pb2.Pipeline,
) -> None:
    names = {each.unique_name for each in pipeline.components.transforms.values()}
    stages = {"Match", "Score", "Score/ReadAhead", "Score/RunInference", "Score/Decide"}
    assert stages | {"WriteSegments", "CountListed", "Publish"} <= names


def pickles(pipeline: beam_runner_api_pb2.Pipeline) -> Iterator[bytes]:
    """What the description holds of our functions, unpacked."""
    for transform in pipeline.components.transforms.values():
        if transform.spec.urn == "beam:transform:pardo:v1":
            payload = beam_runner_api_pb2.ParDoPayload.FromString(
                transform.spec.payload
            )
            yield bz2.decompress(base64.b64decode(payload.do_fn.payload))


def test_no_secret_travels_with_the_job(
    described: Path, pipeline: beam_runner_api_pb2.Pipeline
) -> None:
    functions = b"\n".join(pickles(pipeline))
    # The key's name does, so its bytes would have been found.
    assert str(described / "key").encode() in functions
    sent = [(described / name).read_bytes() for name in ("job.json", "pipeline.pb")]
    for text in (functions, *sent):
        assert b"correct horse" not in text
        assert b"hunter2" not in text


def test_the_model_in_the_box_is_that_of_the_image(
    pipeline: beam_runner_api_pb2.Pipeline,
) -> None:
    handlers = [each for each in pickles(pipeline) if b"SavedModelHandler" in each]
    assert handlers
    assert not any(b"default_model" in each for each in handlers)


def test_what_was_only_described_has_not_run(described: Path) -> None:
    assert not (described / "out" / "runs").exists()


def test_a_template_is_dataflows_alone() -> None:
    flags = ["--template_location=gs://results/job.json"]
    assert runner.template(PipelineOptions(flags)) is None
    flags.append("--runner=DataflowRunner")
    assert runner.template(PipelineOptions(flags)) == "gs://results/job.json"
