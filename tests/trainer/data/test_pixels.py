"""Images are decoded as the pipeline decodes them, once; and come in batches."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from beam_pipeline import images
from beam_pipeline.manifest import Preparation
from tests.trainer import films
from trainer.data import dataset, pixels
from trainer.data.dataset import DatasetError, Naming


def read(folder, examples, preparation):
    return pixels.read(examples, preparation, folder / ".cache")


def write_films(folder, count=6, size=films.SIZE):
    random = np.random.default_rng(1)
    pictures = [
        films.film(random, index % 2 == 1, size, size) for index in range(count)
    ]
    for index, picture in enumerate(pictures):
        path = folder / films.CLASSES[index % 2] / f"person{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(picture).save(path)
    return {f"person{index}.png": picture for index, picture in enumerate(pictures)}


def test_pixels_stand_in_the_order_of_the_paths(tmp_path):
    pictures = write_films(tmp_path)
    examples = dataset.find(tmp_path, Naming())
    found = read(tmp_path, examples, Preparation(height=films.SIZE, width=films.SIZE))
    assert found.dtype == np.uint8
    for path, pixel in zip(examples.paths, found, strict=True):
        np.testing.assert_array_equal(pixel[..., 0], pictures[path.name])


@pytest.mark.parametrize("resize", ["stretch", "pad"])
def test_images_are_read_as_the_pipeline_reads_them(tmp_path, resize):
    pictures = write_films(tmp_path, count=2, size=70)
    preparation = Preparation(height=20, width=30, resize=resize)
    examples = dataset.find(tmp_path, Naming())
    found = read(tmp_path, examples, preparation)
    for path, pixel in zip(examples.paths, found, strict=True):
        expected = images.prepare(pictures[path.name], preparation)
        np.testing.assert_array_equal(pixel, expected)


def test_files_that_cannot_be_read_are_counted_and_some_are_named(tmp_path):
    write_films(tmp_path)
    for index in range(7):
        (tmp_path / "NORMAL" / f"broken{index}.txt").write_text(str(index))
    examples = dataset.find(tmp_path, Naming())
    with pytest.raises(DatasetError, match="7 files") as refusal:
        read(tmp_path, examples, Preparation(height=8, width=8))
    assert "NORMAL/broken0.txt: UNRECOGNISED" in str(refusal.value)
    assert len(str(refusal.value).splitlines()) < 8


def test_a_truncated_image_is_refused_by_name(tmp_path):
    write_films(tmp_path)
    path = tmp_path / "NORMAL" / "person0.png"
    path.write_bytes(path.read_bytes()[:-200])
    examples = dataset.find(tmp_path, Naming())
    with pytest.raises(DatasetError, match=r"1 files.*\n.*person0\.png: DECODE_ERROR"):
        read(tmp_path, examples, Preparation(height=8, width=8))


SMALL = Preparation(height=8, width=8)


@pytest.fixture
def decodes(monkeypatch):
    """The files that are decoded, in a list that grows."""
    paths = []
    genuine = pixels.read_one

    def counted(path, preparation):
        paths.append(path.name)
        return genuine(path, preparation)

    monkeypatch.setattr(pixels, "read_one", counted)
    return paths


def test_the_second_time_nothing_is_decoded(tmp_path, decodes):
    write_films(tmp_path)
    examples = dataset.find(tmp_path, Naming())
    first = np.array(read(tmp_path, examples, SMALL))
    assert len(decodes) == 6
    second = read(tmp_path, examples, SMALL)
    assert len(decodes) == 6
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    "other",
    [
        {"height": 9},
        {"width": 9},
        {"resize": "pad"},
        {"voi": "percentile"},
        {"raster_polarity": "inverted"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_another_preparation_is_decoded_anew(tmp_path, decodes, other):
    write_films(tmp_path)
    examples = dataset.find(tmp_path, Naming())
    read(tmp_path, examples, SMALL)
    read(tmp_path, examples, Preparation(**{"height": 8, "width": 8, **other}))
    assert len(decodes) == 12
    read(tmp_path, examples, SMALL)
    assert len(decodes) == 12


def test_a_file_that_changed_is_decoded_anew(tmp_path):
    write_films(tmp_path)
    examples = dataset.find(tmp_path, Naming())
    before = np.array(read(tmp_path, examples, SMALL))
    path = examples.paths[0]
    with Image.open(path) as picture:
        inverted = 255 - np.asarray(picture)
    written = path.stat().st_mtime_ns
    Image.fromarray(inverted).save(path)
    os.utime(path, ns=(written + 1, written + 1))
    after = read(tmp_path, examples, SMALL)
    np.testing.assert_array_equal(after[1:], before[1:])
    assert np.abs(after[0].astype(int) - before[0]).max() > 50


def test_what_is_read_is_not_changed_by_accident(tmp_path):
    write_films(tmp_path)
    found = read(tmp_path, dataset.find(tmp_path, Naming()), SMALL)
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 0


def test_files_that_cannot_be_read_leave_nothing_in_the_cache(tmp_path):
    write_films(tmp_path)
    (tmp_path / "NORMAL" / "broken.txt").write_text("no image")
    with pytest.raises(DatasetError):
        read(tmp_path, dataset.find(tmp_path, Naming()), SMALL)
    assert not list((tmp_path / ".cache").iterdir())


def numbered(count=10):
    """Images that carry their own number, and targets that follow from it."""
    numbers = np.arange(count)
    carried = np.broadcast_to(numbers[:, None, None, None], (count, 2, 2, 1))
    targets = np.stack([numbers * 3, numbers], axis=1).astype(np.float32)
    return carried.astype(np.uint8), targets


def test_batches_are_the_rows_in_their_order_with_their_targets():
    rows = np.array([7, 3, 3, 9, 0])
    numbers, sizes = [], []
    for image, target in pixels.batches(*numbered(), rows, 2).as_numpy_iterator():
        assert (image.dtype, target.dtype) == (np.uint8, np.float32)
        np.testing.assert_array_equal(image[:, 0, 0, 0] * 3, target[:, 0])
        numbers += image[:, 1, 1, 0].tolist()
        sizes.append(len(target))
    assert numbers == rows.tolist()
    assert sizes == [2, 2, 1]


def test_batches_know_the_shape_of_an_image():
    image, target = pixels.batches(*numbered(), np.arange(10), 4).element_spec
    assert tuple(image.shape) == (None, 2, 2, 1)
    assert tuple(target.shape) == (None, 2)


@pytest.mark.parametrize("count", [0, 1, 64, 65, 130])
def test_chunks_are_all_images_in_their_order(count: int) -> None:
    images = np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1)
    found = list(pixels.chunks(images))
    assert sum(map(len, found)) == count
    assert all(0 < len(chunk) <= 64 for chunk in found)
    assert [int(v) for chunk in found for v in chunk.ravel()] == list(range(count))


def test_what_cannot_be_decoded_leaves_nothing_in_the_cache(
    tmp_path, monkeypatch
) -> None:
    films.write_numbered(tmp_path / "data" / "NORMAL", range(2))
    films.write_numbered(tmp_path / "data" / "PNEUMONIA", range(2, 4))
    examples = dataset.find(tmp_path / "data", dataset.Naming())

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(pixels, "read_one", full)
    with pytest.raises(OSError, match="no space left"):
        pixels.read(examples, Preparation(height=8, width=8), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
