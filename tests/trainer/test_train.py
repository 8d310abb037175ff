"""One run, from images to a model: each part has done its own work."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from beam_pipeline import images, saved_model
from beam_pipeline import manifest as manifests
from tests.trainer import films
from trainer import __main__, describe, train
from trainer import run as runs
from trainer.card import Card
from trainer.data import dataset, split
from trainer.data.dataset import DatasetError, Naming
from trainer.data.split import Division
from trainer.evaluation import predictions
from trainer.run import Data, Run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def manifest(trained):
    return manifests.load(trained.model_dir)


def rates(found, threshold):
    flagged = found.scores >= threshold
    positives = found.positives
    return flagged[positives].mean(), 1 - flagged[~positives].mean()


def test_the_model_is_one_that_the_pipeline_loads(trained):
    model = saved_model.load(trained.model_dir)
    assert model.digest.startswith("sha256:")
    assert model.manifest.task == "binary"


def test_the_manifest_says_what_was_given(trained, manifest):
    assert manifest.name == "model"
    assert manifest.classes == ("NORMAL", "PNEUMONIA")
    assert manifest.findings == ("PNEUMONIA",)
    assert (manifest.preparation.height, manifest.preparation.width) == (32, 32)
    assert (manifest.version, manifest.limits) == ("7", "everything")
    assert manifest.training_data.source == "made in code"
    assert manifest.training_data.seed == 5
    assert manifest.recipe["backbone"] == "tiny"
    assert manifest.recipe["stages"][1]["epochs"] == 4
    assert manifest.recipe["augmentation"]["rotation"] == 10
    assert manifest.explanation.method == "Grad-CAM"
    assert manifest.spread is None


def test_every_image_has_a_prediction(trained):
    files = {
        p.relative_to(trained.data).as_posix() for p in trained.data.rglob("*.png")
    }
    found = trained.predictions
    assert set(found.names) == files
    assert len(found) == len(files) == 120
    classes = np.array(found.classes)[found.labels.argmax(axis=1)]
    assert all(n.startswith(c + "/") for n, c in zip(found.names, classes, strict=True))


def test_no_patient_is_in_two_parts(trained):
    parts = defaultdict(set)
    for path, part in zip(
        trained.predictions.names, trained.predictions.parts, strict=True
    ):
        name = path.split("/")[1]
        patient = name[:7] if name.startswith("IM") else name.split("_")[0]
        parts[patient].add(part)
    assert len(parts) == 80
    assert all(len(found) == 1 for found in parts.values())


def test_the_split_in_the_manifest_is_that_of_the_predictions(trained, manifest):
    for name, described in manifest.training_data.split.items():
        part = trained.predictions.part(name)
        assert described.images == len(part) > 0
        assert described.patients == len(set(part.patients))
        counts = dict(zip(part.classes, part.labels.sum(axis=0).tolist(), strict=True))
        assert described.images_by_class == counts


def test_scores_are_those_of_the_model_on_files_as_the_pipeline_reads_them(
    trained, manifest
):
    found = trained.predictions
    pixels = []
    for name in found.names:
        with (trained.data / name).open("rb") as stream:
            header = images.read_header(stream)
            stream.seek(0)
            picture = images.decode(stream.read(), header)
        pixels.append(images.prepare(picture.pixels, manifest.preparation))
    inference = saved_model.load(trained.model_dir).infer(np.stack(pixels))
    np.testing.assert_allclose(inference.probabilities[:, 1], found.scores, atol=1e-4)


def test_the_model_has_learned_the_finding(manifest):
    assert manifest.metrics["auc"].value > 0.95
    assert manifest.metrics["accuracy"].value > 0.85


def test_metrics_are_those_of_the_held_out_images(trained, manifest):
    held_out = trained.predictions.part("held_out")
    metrics = manifest.metrics
    auc = roc_auc_score(held_out.positives, held_out.scores)
    threshold = manifest.operating_points["default"].thresholds[0]
    right = (held_out.scores >= threshold) == held_out.positives
    brier = np.square(held_out.scores - held_out.positives).mean()
    assert metrics["auc"].value == pytest.approx(auc, abs=1e-9)
    assert metrics["accuracy"].value == pytest.approx(right.mean())
    assert metrics["brier_score"].value == pytest.approx(brier, abs=1e-9)
    assert {figure.n for figure in metrics.values()} == {len(held_out)}


def test_operating_points_are_measured_on_held_out_images(trained, manifest):
    held_out = trained.predictions.part("held_out")
    for point in manifest.operating_points.values():
        found = point.sensitivity.value, point.specificity.value
        assert found == pytest.approx(rates(held_out, point.thresholds[0]))
        assert point.sensitivity.n == held_out.positives.sum()
        assert point.specificity.n == (~held_out.positives).sum()


def test_the_temperature_is_the_best_for_validation_images_alone():
    examples = films.examples([[1] * 200, [1] * 200])
    parts = split.split(examples, Division(seed=1))
    signs = np.repeat([-1, 1], 200)
    random = np.random.default_rng(6)
    # Often wrong, and more sure of itself than it should be.
    margin = random.normal(3 * signs, 6)
    logits = np.stack([0 * margin, margin], axis=1).astype(np.float32)
    pixels = np.zeros((400, 1, 1, 1), np.uint8)
    data = Data(examples, parts, pixels, ("CLASS1",))
    found = describe.predictions_of(data, {"logits": logits}).temperature
    grid = np.exp(np.linspace(-3, 3, 3001))

    def best(chosen):
        losses = np.logaddexp(0, np.outer(-1 / grid, (signs * margin)[chosen]))
        return grid[losses.mean(axis=1).argmin()]

    assert found == pytest.approx(best(parts == "validation"), rel=0.005)
    assert found != pytest.approx(best(parts == "held_out"), rel=0.02)
    assert found != pytest.approx(best(parts != ""), rel=0.02)


def test_logs_are_left_beside_the_model(trained):
    assert {path.name for path in trained.logs.iterdir()} == {
        "cache",
        "member-1",
        "predictions.parquet",
        "run.json",
    }
    assert {path.name for path in (trained.logs / "member-1").iterdir()} == {
        "best.npz",
        "checkpoint.npz",
        "history.csv",
        "tensorboard",
        "training_curves.png",
    }
    with Image.open(trained.logs / "member-1" / "training_curves.png") as picture:
        shown = np.asarray(picture.convert("L"))
    assert (shown < 128).mean() > 0.005


def again(trained, tmp_path, *flags):
    """The manifest of another run of the same command, and its predictions."""
    output = tmp_path / "again"
    assert __main__.main([*trained.command, "--output", str(output), *flags]) == 0
    found = predictions.load(tmp_path / "again.training" / predictions.FILE)
    return manifests.load(output), found


def test_the_same_command_gives_the_same_answers_again(
    trained, few_resamples, tmp_path
):
    _, found = again(trained, tmp_path, "--cache", str(tmp_path / "cache"))
    np.testing.assert_array_equal(found.logits, trained.predictions.logits)
    assert found.temperature == trained.predictions.temperature
    assert not (tmp_path / "again.training" / "cache").exists()
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_the_split_seed_is_that_of_the_split(trained):
    examples = dataset.find(trained.data, Naming())
    expected, other = (
        split.split(examples, Division(seed=seed)).tolist() for seed in (5, 3)
    )
    assert trained.predictions.parts.tolist() == expected != other


ONE_EPOCH = ("--set", "stages=[{unfrozen=1.0, epochs=1, learning_rate=0.01}]")


def test_several_networks_and_mirror_images_are_one_model(
    trained, few_resamples, tmp_path
):
    changes = ("--set", "members=2", "--set", "test_time_augmentation=true")
    manifest, found = again(trained, tmp_path, *changes, *ONE_EPOCH)
    assert manifest.spread.of == 2
    assert manifest.recipe["members"] == 2
    model = saved_model.load(tmp_path / "again")
    pixels, _ = films.films(seed=4, count=6)
    inference = model.infer(pixels)
    assert inference.spread.shape == (6,)
    assert (inference.spread >= 0).all()
    mirrored = model.infer(pixels[:, :, ::-1]).probabilities
    np.testing.assert_allclose(mirrored, inference.probabilities, atol=1e-5)
    assert found.spread is not None
    one, other = (
        (tmp_path / "again.training" / f"member-{number}" / "best.npz").read_bytes()
        for number in (1, 2)
    )
    assert one != other


def test_a_teacher_may_be_a_model_or_what_it_predicted(
    trained, few_resamples, tmp_path
):
    logits = []
    for number, teacher in enumerate(
        (trained.model_dir, trained.logs / predictions.FILE)
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        share = ("--set", "distillation=0.9")
        teach = ("--teacher", str(teacher), *share, *ONE_EPOCH)
        _, found = again(trained, folder, *teach)
        logits.append(found.logits)
    np.testing.assert_allclose(*logits, atol=1e-2)


@pytest.mark.parametrize("teacher", [True, False], ids=["no share", "no teacher"])
def test_a_teacher_and_its_share_belong_together(trained, tmp_path, capsys, teacher):
    flags = ["--teacher", str(trained.model_dir)]
    flags = flags if teacher else ["--set", "distillation=0.5"]
    output = ["--output", str(tmp_path / "again")]
    assert __main__.main([*trained.command, *output, *flags]) == 2
    assert "give both" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("is_file", "said"), [(True, "has learned from"), (False, "another division")]
)
def test_a_teacher_that_learned_from_who_is_to_judge_is_refused(
    trained, tmp_path, capsys, is_file, said
):
    teacher = trained.logs / predictions.FILE if is_file else trained.model_dir
    teach = ("--teacher", str(teacher))
    other = ("--set", "distillation=0.5", "--split_seed", "99")
    output = ["--output", str(tmp_path / "again")]
    assert __main__.main([*trained.command, *output, *teach, *other]) == 2
    assert said in capsys.readouterr().err


def test_thresholds_are_chosen_on_whom_the_folds_held_out(
    trained, few_resamples, tmp_path
):
    flags, held_out = [], set()
    for fold in ("1", "2"):
        (tmp_path / fold).mkdir()
        few = ("--fold", f"{fold}/2", "--min_validation", "1")
        _, found = again(trained, tmp_path / fold, *few, *ONE_EPOCH)
        held_out |= set(found.part("held_out").names.tolist())
        logs = tmp_path / fold / "again.training"
        flags += ["--tuned_on", str(logs / predictions.FILE)]
    manifest, found = again(trained, tmp_path, *flags, *ONE_EPOCH)
    chose = held_out - set(found.part("held_out").names.tolist())
    assert len(chose) == len(found) - len(found.part("held_out"))
    for point in manifest.operating_points.values():
        assert point.chosen_on.startswith(f"out of fold: {len(chose)} images of ")


def test_folds_that_cannot_choose_thresholds_are_refused_before_training(
    trained, tmp_path, capsys
):
    # It holds out whom this run holds out: nobody is left to choose.
    folds = ["--tuned_on", str(trained.logs / predictions.FILE)]
    output = ["--output", str(tmp_path / "again")]
    assert __main__.main([*trained.command, *output, *folds]) == 2
    assert "no images are left" in capsys.readouterr().err
    assert not (tmp_path / "again.training" / "run.json").exists()


def test_a_model_that_misses_what_is_required_is_not_blessed(
    trained, manifest, few_resamples, tmp_path
):
    assert manifest.blessing.blessed
    assert manifest.blessing.required == {"auc": 0.9}
    terms = ("--require", "auc=0.5", "--require", "accuracy=1.01")
    missed, _ = again(trained, tmp_path, *terms, *ONE_EPOCH)
    assert not missed.blessing.blessed
    held, failed = sorted(missed.blessing.reasons, reverse=True)
    assert held.endswith("held")
    assert failed.endswith("of 1.01: missed")


def test_a_model_that_is_no_better_than_the_one_it_replaces_is_not_blessed(
    trained, few_resamples, tmp_path
):
    replaced, _ = again(trained, tmp_path, "--replaces", str(trained.model_dir))
    assert not replaced.blessing.blessed
    assert replaced.blessing.compared_with.startswith("model 7 sha256:")
    assert replaced.blessing.reasons[-1].endswith("of model: missed")


def test_a_model_that_cannot_be_replaced_is_refused_before_training(
    trained, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(train.members, "train", lambda *_: pytest.fail("it trained"))
    flags = ["--output", str(tmp_path / "o"), "--replaces", str(trained.model_dir)]
    other = ["--set", "resize=pad"]
    assert __main__.main([*trained.command, *flags, *other]) == 2
    assert "v1:32x32:stretch" in capsys.readouterr().err


def test_another_recipe_in_the_same_place_is_refused(trained, tmp_path, capsys):
    output = tmp_path / "model"
    logs = tmp_path / "model.training"
    (logs / "member-1").mkdir(parents=True)
    (logs / "member-1" / "checkpoint.npz").touch()
    (logs / "run.json").write_bytes((trained.logs / "run.json").read_bytes())
    command = [*trained.command, "--output", str(output), "--set", "batch_size=8"]
    assert __main__.main(command) == 2
    assert f"{logs} holds a run with another recipe" in capsys.readouterr().err


@pytest.fixture
def run(tiny, chest_xray, tmp_path):
    return Run(
        data=chest_xray,
        naming=Naming(),
        division=Division(seed=1, least_validation=5),
        output=tmp_path / "models" / "new",
        recipe=tiny,
        weights=None,
        card=Card(),
        seed=1,
    )


def test_a_model_is_never_written_over(run):
    run.output.mkdir(parents=True)
    (run.output / "precious").touch()
    with pytest.raises(FileExistsError, match="choose another --output"):
        train.train(run)
    assert [path.name for path in run.output.parent.iterdir()] == ["new"]
    assert [path.name for path in run.output.iterdir()] == ["precious"]


def test_data_that_cannot_be_split_leave_no_model(run):
    with pytest.raises(DatasetError, match="1 patients"):
        train.train(dataclasses.replace(run, naming=Naming(patient="I|p")))
    assert not run.output.exists()


def test_findings_that_are_no_class_are_refused_before_training(run, monkeypatch):
    monkeypatch.setattr(train.members, "train", lambda *_: pytest.fail("it trained"))
    card = Card(findings=("TUBERCULOSIS",))
    with pytest.raises(manifests.ManifestError, match="TUBERCULOSIS"):
        train.train(dataclasses.replace(run, card=card))


def claimed(run, labels=None):
    examples = dataset.find(run.data, run.naming)
    if labels is not None:
        examples = dataclasses.replace(examples, labels=labels)
    parts = split.split(examples, run.division)
    pixels = np.zeros((len(examples), 32, 32, 1), np.uint8)
    runs.claim(run, Data(examples, parts, pixels, ("PNEUMONIA",)))
    return examples


def test_what_was_refused_before_its_first_epoch_is_in_nobodys_way(run):
    claimed(run)
    claimed(dataclasses.replace(run, seed=2))
    (run.logs / "member-1").mkdir()
    (run.logs / "member-1" / "checkpoint.npz").touch()
    claimed(dataclasses.replace(run, seed=2))
    with pytest.raises(FileExistsError, match="choose another --output"):
        claimed(run)


def test_a_run_does_not_go_on_with_other_labels(run):
    labels = claimed(run).labels.copy()
    (run.logs / "member-1").mkdir()
    (run.logs / "member-1" / "checkpoint.npz").touch()
    claimed(run, labels)
    twins = [np.flatnonzero(labels[:, k])[0] for k in (0, 1)]
    labels[twins] = labels[twins[::-1]]
    with pytest.raises(FileExistsError, match="choose another --output"):
        claimed(run, labels)


def test_a_keras_file_of_something_else_is_not_written_over(run):
    run.output.parent.mkdir()
    run.output.with_name("new.keras").touch()
    claimed(run)
    (run.logs / "run.json").unlink()
    with pytest.raises(FileExistsError, match=r"new\.keras exists"):
        claimed(dataclasses.replace(run, also_keras=True))


def command_line(data, output):
    """A run of some seconds, in a process of its own."""
    changes = ("image_size=32", "head.dense=[16]", "batch_size=8")
    stages = "stages=[{unfrozen=0.0, epochs=4, learning_rate=0.001}, "
    stages += "{unfrozen=1.0, epochs=12, learning_rate=0.001}]"
    command = [sys.executable, "-m", "trainer", "train", "--recipe", "custom_cnn"]
    command += ["--data", str(data), "--output", str(output), "--weights", "none"]
    command += ["--min_validation", "1", "--require", "auc=0", "--set", stages]
    return command + [part for change in changes for part in ("--set", change)]


@pytest.mark.slow
def test_a_process_that_is_killed_thrice_ends_as_one_that_was_not(chest_xray, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command_line(chest_xray, whole), env=environment, check=True)
    history = tmp_path / "killed.training" / "member-1" / "history.csv"
    random = np.random.default_rng()
    for epochs in (1, 5, 11):
        process = subprocess.Popen(command_line(chest_xray, killed), env=environment)
        while not history.exists() or len(history.read_text().splitlines()) <= epochs:
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(random.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command_line(chest_xray, killed), env=environment, check=True)
    for name in (
        "member-1/best.npz",
        "member-1/checkpoint.npz",
        "member-1/history.csv",
    ):
        found = (tmp_path / "killed.training" / name).read_bytes()
        assert found == (tmp_path / "whole.training" / name).read_bytes(), name
    one, other = (
        predictions.load(tmp_path / f"{name}.training" / predictions.FILE)
        for name in ("whole", "killed")
    )
    np.testing.assert_array_equal(one.logits, other.logits)


MIRRORED = """
import sys
import tensorflow as tf
cpu, = tf.config.list_physical_devices("CPU")
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
from trainer import __main__, members
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
members._strategy = lambda: strategy
sys.exit(__main__.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_two_devices_train_one_network(chest_xray, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    flags = command_line(chest_xray, tmp_path / "model")[3:]
    subprocess.run(
        [sys.executable, "-c", MIRRORED, *flags], env=environment, check=True
    )
    model = saved_model.load(tmp_path / "model")
    assert model.manifest.metrics["auc"].value > 0.9
    history = (tmp_path / "model.training" / "member-1" / "history.csv").read_text()
    assert len(history.splitlines()) > 4
