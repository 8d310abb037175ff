"""Is a full-size radiograph scored like the 224 × 224 copy in the training data?

    python -m benchmarks.reduction ../shared/data/chest_xray_full \
        ../shared/data/chest_xray_224/train

For each of Pillow's filters: the mean difference between our reduction of the files and
the copies, in grey levels; and for the filter that `prepare` uses, how far the scores
of the model in the box are apart, and how many decisions differ.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from beam_pipeline import images, saved_model
from beam_pipeline.manifest import DEFAULT_MODEL, Preparation

Pictures = list[NDArray[np.uint8]]
BATCH = 32


def main(full_size: Path, copies: Path) -> None:
    """Print the comparison over all files that both folders have."""
    of_name = {path.name: path for path in copies.rglob("*.jpeg")}
    originals = sorted(full_size.rglob("*.jpeg"))
    full = [picture(path) for path in originals]
    small = [picture(of_name[path.name]) for path in originals]
    print(f"{len(full)} radiographs; mean difference in grey levels")
    for name, value in differences(full, small).items():
        print(f"  {name:10} {value:.2f}")
    report_scores(full, small)


def picture(path: Path) -> NDArray[np.uint8]:
    """The upright picture of a file, as the job reads it."""
    with path.open("rb") as stream:
        header = images.read_header(stream)
    return images.decode(path.read_bytes(), header).pixels


def differences(full: Pictures, small: Pictures) -> dict[str, float]:
    """By filter; `prepare` is the one in use."""
    found = {
        kind.name: np.mean(
            [
                difference(
                    np.asarray(Image.fromarray(one).resize(size(two), kind)), two
                )
                for one, two in zip(full, small, strict=True)
            ]
        )
        for kind in Image.Resampling
    }
    prepared = [
        difference(images.prepare(one, preparation(two))[..., 0], two)
        for one, two in zip(full, small, strict=True)
    ]
    return {**{k: float(v) for k, v in found.items()}, "prepare": np.mean(prepared)}


def report_scores(full: Pictures, small: Pictures) -> None:
    """Print how far the scores of the two are apart."""
    model = saved_model.load(DEFAULT_MODEL)
    [threshold] = model.manifest.operating_points["default"].thresholds
    ours, theirs = (
        np.concatenate(
            [
                scores(model, pictures[start : start + BATCH])
                for start in range(0, len(pictures), BATCH)
            ]
        )
        for pictures in (full, small)
    )
    apart = np.abs(ours - theirs)
    flips = int(((ours >= threshold) != (theirs >= threshold)).sum())
    print("difference in score")
    print(f"  median {np.median(apart):.4f}, 95th percentile", end=" ")
    print(f"{np.percentile(apart, 95):.4f}, largest {apart.max():.4f}")
    print(f"  decisions that differ: {flips} of {len(apart)}")


def scores(model: saved_model.SavedModel, pictures: Pictures) -> NDArray[np.float64]:
    """The probability of a finding for each picture."""
    prepared = [images.prepare(each, model.manifest.preparation) for each in pictures]
    probabilities = model.infer(np.stack(prepared)).probabilities
    found: NDArray[np.float64] = probabilities[:, model.manifest.finding_indices]
    return found.sum(axis=1)


def difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """The mean absolute difference of two pictures."""
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


def preparation(like: NDArray[np.uint8]) -> Preparation:
    """A preparation of the size of a picture."""
    return Preparation(height=like.shape[0], width=like.shape[1])


def size(like: NDArray[np.uint8]) -> tuple[int, int]:
    """Width and height, as Pillow wants them."""
    return like.shape[1], like.shape[0]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
