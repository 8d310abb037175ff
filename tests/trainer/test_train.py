"""One run, from a folder of images to a model: each part has done its own work."""

from __future__ import annotations

import csv
import dataclasses
from collections import Counter, defaultdict

import numpy as np
import pytest
from scipy.special import softmax

from beam_pipeline import images, saved_model
from beam_pipeline import manifest as manifests
from tests.trainer import films
from trainer import __main__, train
from trainer.card import Card
from trainer.data import dataset
from trainer.data.dataset import DatasetError


@pytest.fixture(scope="module")
def manifest(trained):
    return manifests.load(trained.model_dir)


@dataclasses.dataclass(frozen=True)
class Part:
    positives: np.ndarray
    scores: np.ndarray

    def rates(self, threshold):
        flagged = self.scores >= threshold
        return flagged[self.positives].mean(), 1 - flagged[~self.positives].mean()


def scored(rows):
    return Part(
        np.array([row["class"] == "PNEUMONIA" for row in rows]),
        np.array([float(row["score"]) for row in rows]),
    )


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
    assert manifest.training_data.seed == 3
    assert manifest.recipe["backbone"] == "tiny"
    assert manifest.recipe["fine_tune_epochs"] == 4
    assert manifest.recipe["augmentation"]["rotation"] == 10


def test_every_image_has_a_score(trained):
    files = {
        p.relative_to(trained.data).as_posix() for p in trained.data.rglob("*.png")
    }
    rows = trained.rows()
    assert {row["path"] for row in rows} == files
    assert len(rows) == len(files) == 120
    assert all(row["path"].startswith(row["class"] + "/") for row in rows)


def test_no_patient_is_in_two_parts(trained):
    parts = defaultdict(set)
    for row in trained.rows():
        name = row["path"].split("/")[1]
        patient = name[:7] if name.startswith("IM") else name.split("_")[0]
        parts[patient].add(row["part"])
    assert len(parts) == 80
    assert all(len(found) == 1 for found in parts.values())


def test_the_split_in_the_manifest_is_that_of_the_scores(trained, manifest):
    for name, described in manifest.training_data.split.items():
        rows = trained.rows(name)
        assert described.images == len(rows) > 0
        assert described.patients == len({row["patient"] for row in rows})
        assert described.images_by_class == Counter(row["class"] for row in rows)


def test_scores_are_those_of_the_model_on_files_as_the_pipeline_reads_them(
    trained, manifest
):
    rows = trained.rows()
    pixels = []
    for row in rows:
        with (trained.data / row["path"]).open("rb") as stream:
            header = images.read_header(stream)
            stream.seek(0)
            picture = images.decode(stream.read(), header)
        pixels.append(images.prepare(picture.pixels, manifest.preparation))
    found = saved_model.load(trained.model_dir).infer(np.stack(pixels))
    scores = [float(row["score"]) for row in rows]
    assert found.probabilities[:, 1] == pytest.approx(scores, abs=1e-4)


def test_the_model_has_learned_the_finding(manifest):
    assert manifest.metrics["auc"].value > 0.95
    assert manifest.metrics["accuracy"].value > 0.85


def test_metrics_are_those_of_the_held_out_images(trained, manifest):
    held_out = scored(trained.rows("held_out"))
    found, metrics = held_out.scores[held_out.positives], manifest.metrics
    normal = held_out.scores[~held_out.positives]
    pairs = np.subtract.outer(found, normal)
    auc = (pairs > 0).mean() + (pairs == 0).mean() / 2
    threshold = manifest.operating_points["default"].thresholds[0]
    right = (held_out.scores >= threshold) == held_out.positives
    brier = np.square(held_out.scores - held_out.positives).mean()
    assert metrics["auc"].value == pytest.approx(auc, abs=1e-9)
    assert metrics["accuracy"].value == pytest.approx(right.mean())
    assert metrics["brier_score"].value == pytest.approx(brier, abs=1e-5)
    assert {figure.n for figure in metrics.values()} == {len(held_out.scores)}


def test_operating_points_are_measured_on_held_out_images(trained, manifest):
    held_out = scored(trained.rows("held_out"))
    for point in manifest.operating_points.values():
        found = point.sensitivity.value, point.specificity.value
        assert found == pytest.approx(held_out.rates(point.thresholds[0]))
        assert point.sensitivity.n == held_out.positives.sum()
        assert point.specificity.n == (~held_out.positives).sum()


def test_logs_are_left_beside_the_model(trained):
    assert {path.name for path in trained.logs.iterdir()} == {
        "best.weights.h5",
        "fine_tune.csv",
        "head.csv",
        "scores.csv",
    }


def test_the_same_command_gives_the_same_scores_again(trained, few_resamples, tmp_path):
    output = tmp_path / "again"
    assert __main__.main([*trained.command, "--output", str(output)]) == 0
    again = (tmp_path / "again.training" / "scores.csv").read_bytes()
    assert again == (trained.logs / "scores.csv").read_bytes()


def test_the_seed_of_the_command_is_that_of_the_split(trained, manifest):
    examples = dataset.find(trained.data, manifest.training_data.patient_pattern)
    names = [path.relative_to(trained.data).as_posix() for path in examples.paths]
    found = {row["path"]: row["part"] for row in trained.rows()}
    expected = dict(zip(names, dataset.split(examples, seed=3), strict=True))
    other = dict(zip(names, dataset.split(examples, seed=4), strict=True))
    assert found == expected != other


@pytest.fixture
def run(tiny, chest_xray, tmp_path):
    return train.Run(
        data=chest_xray,
        output=tmp_path / "models" / "new",
        recipe=tiny,
        weights=None,
        card=Card(),
        patient_pattern=r"^(person\d+|IM-\d+)",
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
        train.train(dataclasses.replace(run, patient_pattern="^"))
    assert not run.output.exists()


def test_findings_that_are_no_class_are_refused_before_training(run, monkeypatch):
    monkeypatch.setattr(train.fit, "fit", lambda *_: pytest.fail("it trained"))
    card = Card(findings=("TUBERCULOSIS",))
    with pytest.raises(manifests.ManifestError, match="TUBERCULOSIS"):
        train.train(dataclasses.replace(run, card=card))


@pytest.fixture
def train_to(run, tmp_path, few_resamples, monkeypatch):
    """Train a network that gives `logits` to as many tiny files, class by class."""

    def write_and_train(classes, logits):
        each = len(logits) // len(classes)
        for index, name in enumerate(classes):
            numbers = range(each * index, each * (index + 1))
            films.write_numbered(tmp_path / "data" / name, numbers)
        monkeypatch.setattr(train.fit, "fit", lambda *_: None)
        monkeypatch.setattr(train, "_logits", lambda *_: logits)
        monkeypatch.setattr(train.export, "export", lambda *_: None)
        manifest = train.train(dataclasses.replace(run, data=tmp_path / "data"))
        with (run.output.with_name("new.training") / "scores.csv").open() as stream:
            return manifest, list(csv.DictReader(stream))

    return write_and_train


@pytest.fixture
def confused(train_to):
    """Manifest, rows and the logit of PNEUMONIA, where many scores are wrong."""
    random = np.random.default_rng(6)
    margin = random.normal(np.repeat([-3, 3], 120), 6).astype(np.float32)
    logits = np.stack([0 * margin, margin], axis=1)
    manifest, rows = train_to(["NORMAL", "PNEUMONIA"], logits)
    return manifest, rows, margin.astype(np.float64)


def test_the_temperature_is_the_best_for_validation_images_alone(confused):
    manifest, rows, margin = confused
    sign = np.array([1 if row["class"] == "PNEUMONIA" else -1 for row in rows])
    parts = np.array([row["part"] for row in rows])
    grid = np.exp(np.linspace(-3, 3, 3001))

    def best(chosen):
        losses = np.logaddexp(0, np.outer(-1 / grid, (sign * margin)[chosen]))
        return grid[losses.mean(axis=1).argmin()]

    found = manifest.calibration.temperature
    assert found == pytest.approx(best(parts == "validation"), rel=0.005)
    assert found != pytest.approx(best(parts == "held_out"), rel=0.02)
    assert found != pytest.approx(best(parts != ""), rel=0.02)


def test_thresholds_are_the_best_for_validation_images_alone(confused):
    manifest, rows, _ = confused
    (threshold,) = manifest.operating_points["default"].thresholds

    def reached_and_best(name):
        part = scored([row for row in rows if row["part"] == name])
        candidates = [0.0, *part.scores.tolist(), 1.0]
        every = [min(part.rates(candidate)) for candidate in candidates]
        return min(part.rates(threshold)), max(every)

    reached, best = reached_and_best("validation")
    assert reached == pytest.approx(best)
    reached, best = reached_and_best("held_out")
    assert reached < best


def test_probabilities_that_add_up_to_a_hair_above_1_are_a_score_of_1(
    train_to, monkeypatch
):
    drawn = np.random.default_rng(1).normal(size=(5000, 3)).astype(np.float32)
    drawn[:, 1] -= 100
    sums = softmax(drawn.astype(np.float64), axis=1)[:, [0, 2]].sum(axis=1)
    logits = np.resize(drawn[sums > 1], (60, 3))
    monkeypatch.setattr(train.calibrate, "temperature", lambda *_: 1.0)
    manifest, _ = train_to(["BACTERIA", "NORMAL", "VIRUS"], logits)
    assert manifest.findings == ("BACTERIA", "VIRUS")
    assert manifest.task == "multiclass"


def test_the_list_of_scores_parts_what_the_model_parts(train_to, monkeypatch):
    # A confident model: all of these round to 0.000000 or 1.000000.
    sure = np.linspace(14, 18, 20)
    margin = np.concatenate([-sure, sure]).astype(np.float32)
    monkeypatch.setattr(train.calibrate, "temperature", lambda *_: 1.0)
    logits = np.stack([0 * margin, margin], axis=1)
    _, rows = train_to(["NORMAL", "PNEUMONIA"], logits)
    scores = [float(row["score"]) for row in rows]
    assert scores == pytest.approx(1 / (1 + np.exp(-margin.astype(np.float64))))
    assert len(set(scores)) == 40
