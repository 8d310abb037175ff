from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from beam_pipeline.images import prepare
from beam_pipeline.manifest import Preparation
from tests import radiographs

STRETCH = Preparation(height=32, width=48)
PAD = dataclasses.replace(STRETCH, resize="pad")


@pytest.mark.parametrize("preparation", [STRETCH, PAD], ids=["stretch", "pad"])
@pytest.mark.parametrize("shape", [(32, 48), (500, 300), (20, 900), (1, 1)], ids=str)
def test_the_model_input_has_the_shape_of_the_manifest(
    preparation: Preparation, shape: tuple[int, int]
) -> None:
    picture = np.full(shape, 200, np.uint8)
    found = prepare(picture, preparation)
    assert found.shape == (32, 48, 1)
    assert found.dtype == np.uint8


def test_a_picture_of_the_right_size_is_not_touched() -> None:
    picture = radiographs.chest(0.5, 32, 48)
    np.testing.assert_array_equal(prepare(picture, STRETCH)[..., 0], picture)


def test_reducing_averages_and_does_not_skip() -> None:
    checks = (np.indices((640, 960)).sum(axis=0) % 2 * 255).astype(np.uint8)
    found = prepare(checks, STRETCH)
    assert np.abs(found.astype(int) - 128).max() <= 2


def test_stretch_fills_and_pad_keeps_the_aspect_ratio() -> None:
    square = np.full((100, 100), 200, np.uint8)
    assert (prepare(square, STRETCH) == 200).all()
    padded = prepare(square, PAD)[..., 0]
    assert (padded[:, 8:40] == 200).all()
    assert (padded[:, :8] == 0).all()
    assert (padded[:, 40:] == 0).all()
