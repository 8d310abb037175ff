"""Does a model say the same of an original and of the small copy it learned from?

    python -m benchmarks.skew ../shared/data/chest_xray_full \
        ../shared/data/chest_xray_224 MODEL_DIR…

The copies were made by another program: resized to 224 × 224 and compressed as JPEG.
The job sees originals. Both are read as the job reads them; pairs have the same name.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.special import logit

from beam_pipeline import saved_model
from beam_pipeline.errors import NotScored
from benchmarks.corruptions import Pixels, scores
from trainer.data import pixels

_SHOWN = 5


def main() -> None:
    """Print, for each model, how far the scores of the pairs lie apart."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("originals", type=Path)
    parser.add_argument("copies", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    arguments = parser.parse_args()
    pairs = list(paired(arguments.originals, arguments.copies))
    print(
        "| model | pairs | mean of the logits' difference | median, 95th and "
        "largest of its size | decisions changed |\n|---|---|---|---|---|"
    )
    for model_dir in arguments.models:
        print(row(model_dir, pairs), flush=True)


def paired(originals: Path, copies: Path) -> list[tuple[Path, Path]]:
    """Each original with the copy of its name and class."""
    known = {
        (path.parent.name, path.name): path
        for path in copies.rglob("*")
        if path.is_file()
    }
    return [
        (path, known[path.parent.name, path.name])
        for path in sorted(originals.rglob("*"))
        if (path.parent.name, path.name) in known
    ]


def row(model_dir: Path, pairs: list[tuple[Path, Path]]) -> str:
    """One model's line of the table."""
    model = saved_model.load(model_dir)
    manifest = model.manifest
    threshold = manifest.operating_points["default"].thresholds[0]
    found = [
        scores(model, read([pair[side] for pair in pairs], manifest.preparation))
        for side in (0, 1)
    ]
    apart = np.subtract(*(logit(each.clip(1e-7, 1 - 1e-7)) for each in found))
    changed = int(np.sum((found[0] >= threshold) != (found[1] >= threshold)))
    median, high = np.quantile(np.abs(apart), [0.5, 0.95])
    return (
        f"| {manifest.name} {manifest.version} | {len(pairs)} | {apart.mean():+.3f} "
        f"| {median:.3f}, {high:.3f}, {np.abs(apart).max():.3f} | {changed} |"
    )


def read(paths: list[Path], preparation: object) -> Pixels:
    """Model inputs of files that can all be read."""
    found = [pixels.read_one(path, preparation) for path in paths]  # type: ignore[arg-type]
    bad = [str(each) for each in found if isinstance(each, NotScored)]
    if bad:
        raise ValueError(f"{len(bad)} files cannot be read: {bad[:_SHOWN]}")
    return np.stack(found)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
