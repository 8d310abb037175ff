from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from beam_pipeline.infer import SavedModelHandler, Score, shapes
from beam_pipeline.manifest import ManifestError
from beam_pipeline.records import Outcome, Ready, Source, Status
from beam_pipeline.saved_model import Inference, OutOfMemory
from tests import radiographs


def ready(*values: int) -> list[Ready]:
    shape = (radiographs.SIZE, radiographs.SIZE, 1)
    return [
        Ready(Outcome.of(Source(str(i))), np.full(shape, value, np.uint8))
        for i, value in enumerate(values)
    ]


class Model:
    """Answers with each image's mean, and remembers what it was shown."""

    def __init__(self, memory: int = 1000, poison: int | None = None) -> None:
        self.sizes: list[int] = []
        self._memory, self._poison = memory, poison

    def __call__(self, images: NDArray[np.uint8]) -> Inference:
        self.sizes.append(len(images))
        if len(images) > self._memory:
            raise OutOfMemory("too large")
        if self._poison is not None and (images == self._poison).any():
            raise RuntimeError("poisoned")
        means = images.mean(axis=(1, 2, 3), dtype=np.float32)[:, np.newaxis]
        return Inference(means, means)


def test_the_batch_shapes_are_few() -> None:
    assert shapes(32) == (1, 2, 8, 32)
    assert shapes(1) == (1,)
    assert shapes(100) == (1, 6, 25, 100)


def test_the_last_batch_is_padded_to_a_known_shape() -> None:
    model = Model()
    outcomes = list(Score(32)(ready(*range(37)), model))
    assert model.sizes == [32, 8]
    assert [o.probabilities for o in outcomes] == [(float(v),) for v in range(37)]


def test_out_of_memory_makes_batches_smaller_for_good() -> None:
    model = Model(memory=8)
    score = Score(32)
    assert len(list(score(ready(*range(20)), model))) == 20
    assert model.sizes == [32, 8, 8, 8]
    assert [o.probabilities[0] for o in score(ready(*range(9)), model)] == list(
        range(9)
    )
    assert max(model.sizes[4:]) == 8


def test_a_device_without_memory_for_one_image_says_so() -> None:
    outcomes = list(Score(4)(ready(1, 2), Model(memory=0)))
    assert [o.reason for o in outcomes] == ["MODEL_ERROR"] * 2


@pytest.mark.parametrize("position", [0, 13, 31, 36])
def test_a_failing_batch_costs_the_guilty_image_alone(position: int) -> None:
    values = [1] * 37
    values[position] = 99
    outcomes = list(Score(32)(ready(*values), Model(poison=99)))
    assert [o.source_uri for o in outcomes] == [str(i) for i in range(37)]
    failed = [i for i, o in enumerate(outcomes) if o.reason == "MODEL_ERROR"]
    assert failed == [position]


def test_a_score_that_is_no_number_is_an_error() -> None:
    def infer(images: NDArray[np.uint8]) -> Inference:
        found = np.ones((len(images), 2), np.float32)
        found[1] = np.nan
        return Inference(found, found)

    outcomes = list(Score(4)(ready(1, 2, 3), infer))
    assert [o.reason for o in outcomes] == [None, "NAN_SCORE", None]


@pytest.mark.parametrize("strange", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["outlier_score", "spread"])
def test_what_else_is_no_number_costs_no_score(name: str, strange: float) -> None:
    def infer(images: NDArray[np.uint8]) -> Inference:
        found = np.ones((len(images), 2), np.float32)
        values = np.arange(len(images), dtype=np.float32)
        values[1] = strange
        return Inference(found, found, **{name: values})

    outcomes = list(Score(4)(ready(1, 2, 3), infer))
    assert [getattr(o, name) for o in outcomes] == [0, None, 2]
    assert [o.reason for o in outcomes] == [None] * 3
    assert all(o.probabilities == (1, 1) for o in outcomes)


def test_a_model_without_outlier_score_and_spread_leaves_the_columns_empty() -> None:
    outcomes = list(Score(4)(ready(1, 2), Model()))
    assert [(o.outlier_score, o.spread) for o in outcomes] == [(None, None)] * 2


def test_final_outcomes_pass_through_in_their_places(model_dir: Path) -> None:
    handler = pickle.loads(pickle.dumps(SavedModelHandler(str(model_dir), 4)))
    model = handler.load_model()
    first, second = ready(0, 200)
    final = Outcome.of(Source("final"))
    found = handler.run_inference([final, first, final, second, final], model)
    assert [found[0], found[2], found[4]] == [final] * 3
    assert found[1].probabilities[1] == pytest.approx(
        radiographs.brightness_score(0), abs=1e-6
    )
    assert found[3].probabilities[1] == pytest.approx(
        radiographs.brightness_score(200), abs=1e-6
    )


def test_a_batch_closes_on_images_and_not_on_what_is_final(model_dir: Path) -> None:
    handler = SavedModelHandler(str(model_dir), 32)
    options = handler.batch_elements_kwargs()
    weigh, most = options["element_size_fn"], options["max_batch_size"]
    [image] = ready(0)
    image_weight, final_weight = weigh(image), weigh(image.outcome)
    assert 32 * image_weight + 900 * final_weight <= most < 33 * image_weight
    assert options["min_batch_size"] == most


def test_the_size_of_a_batch_is_that_of_its_images(model_dir: Path) -> None:
    handler = SavedModelHandler(str(model_dir), 32)
    images = ready(1, 2)
    assert handler.get_num_bytes([*images, images[0].outcome]) == 2 * 32 * 32


def test_a_model_that_nobody_asks_is_not_loaded(tmp_path: Path) -> None:
    handler = SavedModelHandler(str(tmp_path / "none"), 4)
    final = Outcome(source_uri="a", status=Status.REJECTED)
    model = handler.load_model()
    assert handler.run_inference([final, final], model) == [final, final]
    # What cannot be loaded ends the run, and is no fault of the image.
    image = Ready(Outcome(source_uri="b"), np.zeros((4, 4, 1), np.uint8))
    with pytest.raises(ManifestError):
        handler.run_inference([final, image], model)


def test_another_model_than_the_run_began_with_ends_it(model_dir: Path) -> None:
    handler = SavedModelHandler(str(model_dir), 4, digest="sha256:another")
    with pytest.raises(ManifestError, match="another model than when the run began"):
        handler.load_model()()
