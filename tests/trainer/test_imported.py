"""Somebody else's Keras model, exported, answers as it did."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from scipy.special import expit, softmax

from beam_pipeline import manifest as manifests
from beam_pipeline import saved_model
from tests.trainer import films
from trainer import __main__, imported
from trainer.evaluation import evaluate, operating_points

layers = keras.layers
PIXELS = films.films(seed=5, count=6)[0]
TINTS = np.array([103.939, 116.779, 123.68], np.float32)


def one_sigmoid() -> keras.Model:
    """As tutorials build it: a nested base of three channels, one unit."""
    image = keras.Input((32, 32, 3))
    small = keras.initializers.RandomNormal(stddev=0.001)
    features = layers.Conv2D(4, 3, strides=4, kernel_initializer=small)(image)
    base = keras.Model(image, features, name="base")
    return keras.Sequential(
        [keras.Input((32, 32, 3)), base, layers.GlobalAveragePooling2D(),
         layers.Dropout(0.3),
         layers.Dense(1, "sigmoid", kernel_initializer=keras.initializers.Ones()),
         ]
    )  # fmt: skip


def three_softmax() -> keras.Model:
    return keras.Sequential(
        [keras.Input((32, 32, 1)), layers.Conv2D(4, 3, strides=4, activation="relu"),
         layers.BatchNormalization(), layers.Flatten(), layers.Dense(3),
         layers.Softmax()]
    )  # fmt: skip


def two_logits() -> keras.Model:
    image = keras.Input((None, None, 1))
    features = layers.Conv2D(4, 3, strides=4, activation="relu")(image)
    return keras.Model(
        image, layers.Dense(2)(layers.GlobalAveragePooling2D()(features))
    )


def an_average() -> keras.Model:
    """What an average of softmaxes is, its last layer does not show."""
    image = keras.Input((32, 32, 1))
    flat = layers.Flatten()(image)
    pair = [layers.Dense(2, activation="softmax")(flat) for _ in range(2)]
    return keras.Model(image, layers.Average()(pair))


@pytest.fixture(scope="module")
def two_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("two"), ("NORMAL", "PNEUMONIA"))


@pytest.fixture(scope="module")
def three_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("three"), ("BACTERIA", "NORMAL", "VIRUS"))


def write(folder: Path, classes: tuple[str, ...]) -> Path:
    random = np.random.default_rng(2)
    for label in classes:
        (folder / label).mkdir()
        for number in range(10):
            film = films.film(random, label != "NORMAL")
            Image.fromarray(film).save(folder / label / f"person{number}.png")
    return folder


@pytest.fixture(autouse=True)
def rough_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "_RESAMPLES", 20)
    monkeypatch.setattr(operating_points, "_RESAMPLES", 20)


def run(model: Path, data: Path, *flags: str) -> int:
    return __main__.main(
        ["export", "--from", str(model), "--data", str(data), "--min_validation", "2",
         "--output", str(model.with_suffix("")), *flags]
    )  # fmt: skip


def saved(build: Callable[[], keras.Model], path: Path) -> keras.Model:
    keras.utils.set_random_seed(3)
    model = build()
    model.save(path)
    return model


# In the order of the data set: NORMAL, PNEUMONIA; BACTERIA, NORMAL, VIRUS.
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_one_sigmoid_unit_answers_as_before(
    tmp_path: Path, two_classes: Path, suffix: str
) -> None:
    file = tmp_path / f"model{suffix}"
    model = saved(one_sigmoid, file)
    flags = ("--classes", "NORMAL,PNEUMONIA", "--scale", "imagenet_caffe")
    assert run(file, two_classes, *flags) == 0
    expected = model.predict(np.repeat(PIXELS, 3, axis=-1) - TINTS, verbose=0)[:, 0]
    found = saved_model.load(tmp_path / "model")
    temperature = found.manifest.calibration.temperature
    logits = found.infer(PIXELS).logits
    apart = logits[:, 1] - logits[:, 0]
    assert 0.01 < expected.min() < expected.max() < 0.99
    np.testing.assert_allclose(expit(apart), expected, atol=1e-5)
    calibrated = found.infer(PIXELS).probabilities[:, 1]
    np.testing.assert_allclose(calibrated, expit(apart / temperature), atol=1e-5)
    parts = found.manifest.training_data.split
    assert parts["training"].images == 0
    assert parts["validation"].images == parts["held_out"].images == 10


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_softmax_units_answer_as_before_in_their_own_order(
    tmp_path: Path, three_classes: Path, suffix: str
) -> None:
    file = tmp_path / f"model{suffix}"
    model = saved(three_softmax, file)
    flags = ("--classes", "NORMAL,VIRUS,BACTERIA", "--scale", "minus1_1")
    assert run(file, three_classes, *flags, "--findings", "BACTERIA,VIRUS") == 0
    expected = model.predict(PIXELS / 127.5 - 1, verbose=0)
    found = saved_model.load(tmp_path / "model")
    assert found.manifest.classes == ("NORMAL", "VIRUS", "BACTERIA")
    assert found.manifest.findings == ("BACTERIA", "VIRUS")
    logits = found.infer(PIXELS).logits
    np.testing.assert_allclose(softmax(logits, axis=1), expected, atol=1e-5)
    heatmaps = found.explain(PIXELS, np.zeros(len(PIXELS), np.int32))
    assert heatmaps.shape == (6, 32, 32)
    assert np.isfinite(heatmaps).all()
    assert heatmaps.any()


def test_a_cast_at_the_end_hides_no_softmax(tmp_path: Path) -> None:
    image = keras.Input((32, 32, 1))
    answer = layers.Dense(2, activation="softmax")(layers.Flatten()(image))
    cast = layers.Activation("linear", dtype="float32")(answer)
    model = keras.Model(image, cast)
    model.save(tmp_path / "cast.keras")
    opened = imported.load(tmp_path / "cast.keras")
    assert (opened.output, opened.activation) == ("none", "softmax")
    pixels = PIXELS.astype(np.float32) / 255
    logits = np.asarray(opened.network(pixels)[2])
    expected = model.predict(pixels, verbose=0)
    np.testing.assert_allclose(softmax(logits, axis=1), expected, atol=1e-6)


def test_an_average_needs_its_activation_said(
    tmp_path: Path, two_classes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "model.keras"
    model = saved(an_average, file)
    flags = ("--classes", "NORMAL,PNEUMONIA", "--scale", "0_1")
    assert run(file, two_classes, *flags) == 2
    assert "say with --activation" in capsys.readouterr().err
    assert run(file, two_classes, *flags, "--activation", "softmax") == 0
    found = saved_model.load(tmp_path / "model")
    logits = found.infer(PIXELS).logits
    expected = model.predict(PIXELS / 255, verbose=0)
    np.testing.assert_allclose(np.exp(logits), expected, atol=1e-5)
    assert found.manifest.explanation is None


def test_a_model_of_any_size_needs_one(
    tmp_path: Path, two_classes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "model.keras"
    saved(two_logits, file)
    flags = ("--classes", "NORMAL,PNEUMONIA", "--scale", "0_1")
    assert run(file, two_classes, *flags) == 2
    assert "--image_size" in capsys.readouterr().err
    assert run(file, two_classes, *flags, "--image_size", "32") == 0
    assert manifests.load(tmp_path / "model").preparation.height == 32


@pytest.mark.parametrize(
    ("build", "flags", "why"),
    [
        (one_sigmoid, ("--classes", "A,B", "--scale", "0_1"), "the data has NORMAL"),
        (one_sigmoid, ("--classes", "NORMAL,PNEUMONIA", "--scale", "0_1",
                       "--activation", "softmax"), "last layer says sigmoid"),
        (three_softmax, ("--classes", "NORMAL,PNEUMONIA", "--scale", "0_1"),
         "has 3 units"),
        (three_softmax, ("--classes", "NORMAL,PNEUMONIA", "--scale", "imagenet_caffe"),
         "three channels"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(
    tmp_path: Path,
    two_classes: Path,
    capsys: pytest.CaptureFixture[str],
    build: Callable[[], keras.Model],
    flags: tuple[str, ...],
    why: str,
) -> None:
    saved(build, tmp_path / "model.keras")
    assert run(tmp_path / "model.keras", two_classes, *flags) == 2
    assert why in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


class Unknown(layers.Layer):
    def call(self, image: object) -> object:
        return image


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize(
    ("layer", "why"),
    [(lambda: layers.Lambda(lambda image: image * 2), "Lambda layer, which is code"),
     (Unknown, "layers, losses or functions of its own")],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_code_in_a_file_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    layer: Callable[[], keras.Layer],
    why: str,
    suffix: str,
) -> None:
    stack = [keras.Input((8, 8, 1)), layer(), layers.Flatten(), layers.Dense(2)]
    keras.Sequential(stack).save(tmp_path / f"model{suffix}")
    monkeypatch.delattr(f"{__name__}.Unknown")
    with pytest.raises(ValueError, match=why):
        imported.load(tmp_path / f"model{suffix}")


def test_a_file_that_is_no_model_says_so(tmp_path: Path) -> None:
    file = tmp_path / "model.keras"
    with pytest.raises(FileNotFoundError, match="no such file"):
        imported.load(file)
    file.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="Keras cannot load it"):
        imported.load(file)
