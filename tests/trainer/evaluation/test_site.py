"""The command on the tables of a run, with scores whose calibration can be foretold."""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_curve

from beam_pipeline import calibration, decide, manifest, tables
from beam_pipeline.calibration import SiteCalibration
from beam_pipeline.manifest import Manifest, OperatingPoint
from beam_pipeline.records import Outcome, Status
from beam_pipeline.tables import INSTANCES
from tests import radiographs
from trainer.commands import calibrate
from trainer.evaluation import site
from trainer.evaluation.operating_points import METHODS
from trainer.evaluation.site_labels import Labelled, LabelsError

POINT = radiographs.manifest().operating_points["default"]
MANY = radiographs.manifest(
    task="multilabel",
    classes=("NODULE", "EFFUSION", "LINE"),
    findings=("NODULE", "EFFUSION"),
    operating_points={
        "default": OperatingPoint(**{**vars(POINT), "thresholds": (0.5,) * 3})
    },
)


def binary(images: int = 240, signal: float = 1.5, seed: int = 0) -> Labelled:
    """Two images a patient; the model is three times too sure, and off by one."""
    random = np.random.default_rng(seed)
    bright = random.uniform(size=images) < 0.4
    logit = 3 * random.normal(np.where(bright, signal, -signal), 1) + 3
    return Labelled(
        logits=np.stack([np.zeros(images), logit], axis=1).astype(np.float32),
        truths=np.stack([~bright, bright], axis=1),
        patients=np.array([f"p{index // 2}" for index in range(images)]),
        left_out=0,
        alone=0,
    )


def many(images: int = 240) -> Labelled:
    random = np.random.default_rng(1)
    truths = random.uniform(size=(images, 3)) < [0.3, 0.5, 0.4]
    logits = random.normal(np.where(truths, 2.0, -2.0), [2.0, 3.0, 2.0])
    patients = np.array([f"p{index // 2}" for index in range(images)])
    return Labelled(logits.astype(np.float32), truths, patients, 0, 0)


def calibrated(labelled: Labelled, model: Manifest) -> SiteCalibration:
    return site.calibration(site.trial(labelled, model), "sha256:0", "Ward 3")


def inverse_temperature(logits: NDArray, truths: NDArray) -> float:
    """The slope of a logistic regression without intercept: another way there."""
    fitted = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10)
    return float(fitted.fit(logits.reshape(-1, 1), truths.ravel()).coef_[0, 0])


def test_the_temperature_is_that_of_a_logistic_regression() -> None:
    labelled = binary()
    slope = inverse_temperature(labelled.logits[:, 1], labelled.truths[:, 1])
    found = calibrated(labelled, radiographs.manifest()).temperature
    assert found == pytest.approx(1 / slope, rel=1e-3)
    labelled = many()
    slope = inverse_temperature(labelled.logits, labelled.truths)
    assert calibrated(labelled, MANY).temperature == pytest.approx(1 / slope, rel=1e-3)


def test_the_threshold_is_the_best_on_the_sites_images() -> None:
    labelled = binary()
    found = calibrated(labelled, radiographs.manifest())
    scores = expit(labelled.logits[:, 1].astype(np.float64) / found.temperature)
    bright = labelled.truths[:, 1]
    for name, merit in [
        ("default", lambda sensitivity, specificity: min(sensitivity, specificity)),
        ("youden", lambda sensitivity, specificity: sensitivity + specificity),
    ]:
        [threshold] = found.operating_points[name].thresholds
        above = scores >= threshold
        reached = merit(above[bright].mean(), (~above)[~bright].mean())
        false_positive, sensitivity, _ = roc_curve(bright, scores)
        best = max(map(merit, sensitivity, 1 - false_positive))
        assert reached == pytest.approx(best)
    assert set(found.operating_points) == set(METHODS)


def test_each_class_of_a_multilabel_model_has_its_threshold() -> None:
    labelled = many()
    found = calibrated(labelled, MANY)
    thresholds = found.operating_points["youden"].thresholds
    scores = expit(labelled.logits.astype(np.float64) / found.temperature)
    for truth, score, threshold in zip(
        labelled.truths.T, scores.T, thresholds, strict=True
    ):
        above = score >= threshold
        reached = above[truth].mean() + (~above)[~truth].mean()
        false_positive, sensitivity, _ = roc_curve(truth, score)
        assert reached == pytest.approx((sensitivity + 1 - false_positive).max())
    # LINE is no finding: an image with nothing else is none of the positives.
    findings = labelled.truths[:, :2].any(axis=1)
    judged = found.operating_points["default"].sensitivity
    assert (judged.n, found.images) == (findings.sum(), 240)


def test_the_job_decides_as_the_thresholds_were_chosen() -> None:
    for labelled, model in [(binary(), radiographs.manifest()), (many(), MANY)]:
        found = calibrated(labelled, model)
        policy = decide.policy(
            model, "sha256:0", "run", calibration=found, operating_point="youden"
        )
        trial = site.trial(labelled, model)
        decisions = trial.scores(found.temperature) >= policy.thresholds
        for logits, expected in zip(
            labelled.logits.tolist(), trial.positive(decisions), strict=True
        ):
            image = Outcome(source_uri="a", probabilities=(0.5,), logits=tuple(logits))
            assert decide.decide(image, policy).positive == expected


def test_figures_are_of_patients_that_did_not_choose() -> None:
    """Where scores say nothing, choosing finds something and judging finds nothing."""
    model = radiographs.manifest()
    gains = []
    for seed in range(5):
        labelled = binary(100, signal=0.0, seed=seed)
        found = calibrated(labelled, model)
        point = found.operating_points["youden"]
        trial = site.trial(labelled, model)
        flattered = trial.judged(trial.scores(found.temperature) >= point.thresholds)
        honest = (point.sensitivity, point.specificity)
        gains.append(
            sum(f.value - h.value for f, h in zip(flattered, honest, strict=True))
        )
        assert "cross-validation, grouped by patient" in point.method
    assert np.mean(gains) > 0.1


def test_no_patient_chooses_and_is_judged() -> None:
    trial = site.trial(binary(), radiographs.manifest())
    judged = []
    for chosen_on, judged_on in site._folds(trial):
        assert not set(trial.patients[chosen_on]) & set(trial.patients[judged_on])
        judged.extend(judged_on.tolist())
    assert sorted(judged) == list(range(240))


def only(labelled: Labelled, chosen: NDArray) -> Labelled:
    return Labelled(
        labelled.logits[chosen],
        labelled.truths[chosen],
        labelled.patients[chosen],
        0,
        0,
    )


def test_too_few_are_refused_with_what_they_would_be_worth() -> None:
    labelled, model = binary(), radiographs.manifest()
    bright = np.flatnonzero(labelled.truths[:, 1])
    dark = np.flatnonzero(~labelled.truths[:, 1])
    few = only(labelled, np.r_[bright[:10], dark])
    with pytest.raises(LabelsError, match=r"10 of them with a finding.*0\.60 to 0\.98"):
        site.trial(few, model)
    with pytest.raises(LabelsError, match=r"0 of them without.*0\.00 to 1\.00"):
        site.trial(only(labelled, bright), model)
    with pytest.raises(LabelsError, match=r"49 labelled images.*Bring 50 images"):
        site.trial(only(labelled, np.r_[bright[:24], dark[:25]]), model)
    site.trial(only(labelled, np.r_[bright[:25], dark[:25]]), model)
    with pytest.raises(LabelsError, match="none of the labelled files"):
        site.trial(only(labelled, bright[:0]), model)


def test_images_of_a_handful_of_patients_are_refused() -> None:
    labelled = binary()
    patients = np.where(labelled.truths[:, 1], "one", labelled.patients)
    with pytest.raises(LabelsError, match=r"with a finding, of 1 patients"):
        site.trial(
            Labelled(labelled.logits, labelled.truths, patients, 0, 0),
            radiographs.manifest(),
        )


def test_a_rare_class_of_a_multilabel_model_is_named() -> None:
    labelled = many()
    labelled.truths[10:, 1] = False
    with pytest.raises(LabelsError, match="with EFFUSION"):
        site.trial(labelled, MANY)


# The command


@pytest.fixture
def ward(tmp_path: Path) -> Path:
    """A model, a finished run of it, and labels by SOP Instance UID."""
    model = radiographs.manifest()
    (tmp_path / "model").mkdir()
    manifest.save(model, tmp_path / "model")
    digest = manifest.verify(model, tmp_path / "model")
    write_run(tmp_path / "out", "night", digest)
    labelled = binary()
    with (tmp_path / "labels.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["sop_instance_uid", "label"])
        for index, bright in enumerate(labelled.truths[:, 1]):
            table.writerow([f"1.2.{index}", "BRIGHT" if bright else "DARK"])
        table.writerow(["1.3.0", "DARK"])
    return tmp_path


def write_run(output: Path, run_id: str, digest: str) -> None:
    labelled = binary()
    rows = [
        Outcome(
            source_uri=f"/in/{index}.dcm",
            status=Status.SCORED,
            sop_instance_uid=f"1.2.{index}",
            study_instance_uid=f"1.2.0.{patient[1:]}",
            logits=tuple(logits),
            model_digest=digest,
        )
        for index, (logits, patient) in enumerate(
            zip(labelled.logits.tolist(), labelled.patients, strict=True)
        )
    ]
    rejected = Outcome(
        source_uri="/in/hand.dcm",
        status=Status.REJECTED,
        sop_instance_uid="1.3.0",
        model_digest=digest,
    )
    folder = output / "instances" / f"run={run_id}"
    folder.mkdir(parents=True)
    table = tables.table([*rows, rejected], INSTANCES)
    pq.write_table(table, folder / "part-00000.parquet")
    (output / "runs" / run_id).mkdir(parents=True)
    (output / "runs" / run_id / "_SUCCESS").touch()


def run(ward: Path, *flags: str) -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    calibrate.add_arguments(parser)
    defaults = [
        f"--run={ward / 'out'}",
        f"--labels={ward / 'labels.csv'}",
        f"--model={ward / 'model'}",
        f"--output={ward / 'site.json'}",
        "--site=Ward 3",
    ]
    return calibrate.run(parser.parse_args([*defaults, *flags]))


def test_the_command_leaves_a_file_that_the_job_takes(
    ward: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(ward, "--notes=CR only") == 0
    model = manifest.load(ward / "model")
    found = calibration.load(ward / "site.json")
    digest = manifest.verify(model, ward / "model")
    found.require_model(model, digest)
    expected = calibrated(binary(), model)
    assert found.temperature == pytest.approx(expected.temperature)
    assert found.operating_points == expected.operating_points
    assert (found.site, found.notes) == ("Ward 3", "CR only")
    assert (found.images, found.patients) == (240, 120)
    printed = capsys.readouterr().out
    assert "240 labelled images of 120 patients" in printed
    assert "1 labelled files have no score of their own" in printed
    labelled = binary()
    bright = labelled.truths[:, 1]
    before = (expit(labelled.logits[:, 1]) >= 0.5)[bright].mean()
    assert f"threshold 0.500  sensitivity {before:.3f}" in printed
    [threshold] = found.operating_points["default"].thresholds
    after = found.operating_points["default"].specificity.value
    assert f"threshold {threshold:.3f}" in printed
    assert f"specificity {after:.3f}" in printed
    assert "1.2." not in printed


def test_a_run_is_named_where_there_are_several(ward: Path) -> None:
    model = manifest.load(ward / "model")
    write_run(ward / "out", "again", manifest.verify(model, ward / "model"))
    with pytest.raises(LabelsError, match="2 finished runs: again, night; choose"):
        run(ward)
    with pytest.raises(LabelsError, match="no finished run nigth"):
        run(ward, "--run_id=nigth")
    assert run(ward, "--run_id=night") == 0


def test_a_run_that_did_not_finish_does_not_count(ward: Path) -> None:
    (ward / "out" / "runs" / "night" / "_SUCCESS").unlink()
    with pytest.raises(LabelsError, match="no finished run"):
        run(ward)


def test_scores_of_another_model_are_refused(ward: Path) -> None:
    manifest.save(radiographs.manifest(version="2"), ward / "model")
    with pytest.raises(LabelsError, match="Score the images again with this model"):
        run(ward)


def test_a_file_is_not_written_over(ward: Path) -> None:
    (ward / "site.json").touch()
    with pytest.raises(FileExistsError, match="choose another --output"):
        run(ward)
    assert (ward / "site.json").read_bytes() == b""


def test_labels_of_no_file_are_counted(ward: Path) -> None:
    text = (ward / "labels.csv").read_text()
    (ward / "labels.csv").write_text(text + "9.9.1,DARK\n9.9.2,DARK\n")
    with pytest.raises(LabelsError, match="2 of 243 labels are of no file") as caught:
        run(ward)
    assert "9.9" not in str(caught.value)
    assert not (ward / "site.json").exists()


def test_it_needs_no_tensorflow_and_its_flags_need_nothing() -> None:
    for module, heavy in [
        ("trainer.commands.calibrate", ("numpy", "sklearn", "tensorflow")),
        ("trainer.evaluation.site", ("tensorflow", "keras", "apache_beam")),
    ]:
        code = f"import sys, {module}; print(*sys.modules)"
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert not set(heavy) & set(done.stdout.split())
