from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from beam_pipeline import device, infer, read_ahead, saved_model
from beam_pipeline.batching import CALL_BYTES, USUAL
from beam_pipeline.infer import Fetch, SavedModelHandler, Score, shapes
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
    """Answers with each image's mean, and remembers what it was shown.

    What fails does so when the outcome is fetched, or at once as on a CPU.
    """

    def __init__(
        self, memory: int = 1000, poison: int | None = None, fails_late: bool = False
    ) -> None:
        self.sizes: list[int] = []
        self._memory, self._poison, self._fails_late = memory, poison, fails_late

    def __call__(self, images: NDArray[np.uint8]) -> Fetch:
        self.sizes.append(len(images))
        if self._fails_late:
            return lambda: self._inference(images)
        inference = self._inference(images)
        return lambda: inference

    def _inference(self, images: NDArray[np.uint8]) -> Inference:
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


def test_a_batch_is_handed_over_before_the_one_before_it_is_fetched() -> None:
    model, steps = Model(), []

    def dispatch(images: NDArray[np.uint8]) -> Fetch:
        steps.append(("given", int(images[0, 0, 0, 0])))
        fetch = model(images)

        def fetched() -> Inference:
            steps.append(("fetched", int(images[0, 0, 0, 0])))
            return fetch()

        return fetched

    outcomes = list(Score(2)(ready(*range(6)), dispatch))
    assert [o.probabilities for o in outcomes] == [(float(v),) for v in range(6)]
    assert steps == [
        ("given", 0),
        ("given", 2),
        ("fetched", 0),
        ("given", 4),
        ("fetched", 2),
        ("fetched", 4),
    ]


@pytest.mark.parametrize("fails_late", [False, True])
def test_batches_on_their_way_that_do_not_fit_are_all_scored(fails_late: bool) -> None:
    model = Model(memory=8, fails_late=fails_late)
    outcomes = list(Score(32)(ready(*range(100)), model))
    assert [o.probabilities for o in outcomes] == [(float(v),) for v in range(100)]
    # Two were handed over before the first was found not to fit; it shrank once.
    assert model.sizes[:2] == [32, 32]
    assert set(model.sizes[2:]) <= {2, 8}


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


@pytest.mark.parametrize("fails_late", [False, True])
@pytest.mark.parametrize("position", [0, 13, 31, 36])
def test_a_failing_batch_costs_the_guilty_image_alone(
    position: int, fails_late: bool
) -> None:
    values = [1] * 37
    values[position] = 99
    model = Model(poison=99, fails_late=fails_late)
    outcomes = list(Score(32)(ready(*values), model))
    assert [o.source_uri for o in outcomes] == [str(i) for i in range(37)]
    failed = [i for i, o in enumerate(outcomes) if o.reason == "MODEL_ERROR"]
    assert failed == [position]


def test_a_score_that_is_no_number_is_an_error() -> None:
    def dispatch(images: NDArray[np.uint8]) -> Fetch:
        found = np.ones((len(images), 2), np.float32)
        found[1] = np.nan
        return lambda: Inference(found, found)

    outcomes = list(Score(4)(ready(1, 2, 3), dispatch))
    assert [o.reason for o in outcomes] == [None, "NAN_SCORE", None]


@pytest.mark.parametrize("strange", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["outlier_score", "spread"])
def test_what_else_is_no_number_costs_no_score(name: str, strange: float) -> None:
    def dispatch(images: NDArray[np.uint8]) -> Fetch:
        found = np.ones((len(images), 2), np.float32)
        values = np.arange(len(images), dtype=np.float32)
        values[1] = strange
        return lambda: Inference(found, found, **{name: values})

    outcomes = list(Score(4)(ready(1, 2, 3), dispatch))
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


def most_images(handler: SavedModelHandler) -> int:
    """How many images close a call; hardly fewer with three final rows for each."""
    options = handler.batch_elements_kwargs()
    weigh, most = options["element_size_fn"], options["max_batch_size"]
    assert options["min_batch_size"] == most
    [image] = ready(0)
    images = most // weigh(image)
    among_final = most // (weigh(image) + 3 * weigh(image.outcome))
    assert 0.95 * images <= among_final <= images
    assert weigh(image.outcome) * 40_000 > most
    return images


@pytest.mark.parametrize(("asked", "images"), [(None, USUAL), (1, 1), (256, 256)])
def test_a_call_closes_on_images_and_not_on_what_is_final(
    model_dir: Path, asked: int | None, images: int
) -> None:
    assert most_images(SavedModelHandler(str(model_dir), asked)) == images


def test_on_a_gpu_the_batch_is_found_by_trying(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The path of a GPU, on what TensorFlow has here.
    monkeypatch.setattr(saved_model, "devices", lambda: ["NVIDIA L4"])
    handler = SavedModelHandler(str(model_dir), run_id="gpu")
    images = ready(*range(50))
    outcomes = handler.run_inference(images, handler.load_model())
    found = device.of("gpu")
    assert found.name == "NVIDIA L4"
    assert found.batch_size in (16, 32, 64, 128)
    assert found.batches_a_call == 4
    assert most_images(handler) == 4 * found.batch_size
    plain = SavedModelHandler(str(model_dir), 1)
    expected = plain.run_inference(images, plain.load_model())
    for outcome, other in zip(outcomes, expected, strict=True):
        assert outcome.logits == pytest.approx(other.logits, abs=1e-6)


def test_reading_need_not_stop_while_the_model_works_on_a_call() -> None:
    assert 2 * CALL_BYTES <= read_ahead.AHEAD_BYTES


def test_the_time_of_the_device_is_told_to_who_writes_rows(model_dir: Path) -> None:
    handler = SavedModelHandler(str(model_dir), 4, run_id="timed")
    model = handler.load_model()
    before = infer.counts.here()
    for _ in range(2):
        handler.run_inference(ready(1, 2, 3, 4, 5), model)
    gone_by = device.told("timed")
    assert gone_by.devices == {("CPU", 4)}
    # Neither loading the model nor warming it up is in it.
    assert gone_by.batches == 4
    assert gone_by.busy > 0
    counted = infer.counts.here() - before
    assert (counted[infer.BUSY], counted[infer.IDLE]) == (gone_by.busy, gone_by.idle)


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


def test_a_model_that_is_expected_is_loaded_before_anybody_asks(
    model_dir: Path,
) -> None:
    handler = SavedModelHandler(str(model_dir), 4)
    # As a runner does: who reads and who infers have copies of it.
    reads, infers = (pickle.loads(pickle.dumps(handler)) for _ in range(2))
    model = infers.load_model()
    reads.expect()
    loaded = model.begin().result(60)
    reads.expect()
    assert model() is loaded


def test_a_model_that_is_expected_and_cannot_be_loaded_is_tried_again_when_asked(
    model_dir: Path, tmp_path: Path
) -> None:
    handler = SavedModelHandler(str(tmp_path / "late"), 4)
    model = handler.load_model()
    handler.expect()
    with pytest.raises(ManifestError):
        model()
    (tmp_path / "late").symlink_to(model_dir)
    assert model().model.manifest.preparation.height == radiographs.SIZE


def test_another_model_than_the_run_began_with_ends_it(model_dir: Path) -> None:
    handler = SavedModelHandler(str(model_dir), 4, digest="sha256:another")
    with pytest.raises(ManifestError, match="another model than when the run began"):
        handler.load_model()()
