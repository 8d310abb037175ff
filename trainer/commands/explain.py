"""python -m trainer explain: heatmaps of where a score comes from.

Not of where disease is: see docs/explanations.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.commands import predict as predict_command

if TYPE_CHECKING:
    from trainer.explanation.predict import Reader
    from trainer.explanation.sanity import Sanity

_CHECKED = 32
_SHOWN = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the flags of `explain`."""
    add = parser.add_argument
    add("file", nargs="*", type=Path, metavar="FILE", help="PNG, JPEG or DICOM")
    add("--output", type=Path, required=True, help="folder to make")
    add(
        "--class",
        dest="class_name",
        metavar="NAME",
        help="whose heatmap (default: the finding's)",
    )
    predict_command.add_model(parser)
    add(
        "--data",
        type=Path,
        help="labelled images, to draw examples of every kind of right and wrong from; "
        "as of train",
    )
    add("--examples", type=int, default=4, metavar="N", help="of each kind")
    add(
        "--sanity_check",
        action="store_true",
        help=f"of the heatmaps on the files, or {_CHECKED} of --data: do they change "
        "when the model's weights are made random? exits with 1 where they do not",
    )
    add("--seed", type=int, default=1, help="of the draw, and of the random weights")


def run(arguments: argparse.Namespace) -> int:
    """Write heatmaps; the exit code: 1 if a file or a check failed.

    Raises:
        ValueError: flags that cannot be used together, a model without heatmaps.
    """
    from beam_pipeline import manifest as manifests
    from trainer.evaluation import report
    from trainer.explanation import predict

    if bool(arguments.file) == bool(arguments.data):
        raise ValueError("give files, or --data, and not both")
    reader = predict.reader(
        arguments.model or manifests.DEFAULT_MODEL,
        arguments.operating_point,
        arguments.threshold,
    )
    predict_command.warn_unblessed(reader.model.manifest)
    report.make_folder(arguments.output)
    if arguments.sanity_check:
        return _check(reader, arguments)
    if arguments.data:
        return _examples(reader, arguments)
    return _files(reader, arguments)


def _files(reader: Reader, arguments: argparse.Namespace) -> int:
    from trainer.explanation import explain, predict
    from trainer.explanation.explain import Explained

    failed = False
    written = explain.write_files(
        reader, arguments.file, arguments.class_name, arguments.output
    )
    for path, found in written:
        if not isinstance(found, Explained):
            print(f"{path}: {found}", file=sys.stderr)
            failed = True
            continue
        for warning in predict.warnings(found.seen, found.outcome):
            print(f"{path}: {warning}", file=sys.stderr)
    print(f"{arguments.output / 'index.csv'} says which heatmap is of which file")
    return int(failed)


def _examples(reader: Reader, arguments: argparse.Namespace) -> int:
    from trainer.data import dataset
    from trainer.explanation import explain

    examples = dataset.find(arguments.data, dataset.Naming())
    for page in explain.write_examples(
        reader, examples, arguments.examples, arguments.seed, arguments.output
    ):
        print(page)
    return 0


def _check(reader: Reader, arguments: argparse.Namespace) -> int:
    from trainer.evaluation import report
    from trainer.explanation import explain, heatmap_figures

    files = arguments.file or _drawn(arguments.data, arguments.seed)
    checked, images = explain.check(reader, files, arguments.class_name, arguments.seed)
    rows = [(step.layer, step.share, step.correlation) for step in checked.steps]
    header = ("randomised_down_to", "share_of_variables", "rank_correlation")
    report.write_csv(arguments.output / "sanity_check.csv", header, rows)
    figure = heatmap_figures.sanity(checked, images[:_SHOWN])
    figure.savefig(arguments.output / "sanity_check.png")
    _say(checked, len(images))
    return int(not checked.passed)


def _drawn(data: Path, seed: int) -> list[Path]:
    import numpy as np

    from trainer.data import dataset

    paths = dataset.find(data, dataset.Naming()).paths
    order = np.random.default_rng(seed).permutation(len(paths))
    return [paths[row] for row in order[:_CHECKED]]


def _say(checked: Sanity, images: int) -> None:
    import numpy as np

    print(f"{'weights random down to':30} {'of all':>6}  rank correlation")
    for step in checked.steps:
        name = step.layer or "(none)"
        print(f"{name:30} {step.share:6.0%}  {step.correlation:+.2f}")
    verdict = (
        "the heatmaps depend on what the model has learned"
        if checked.passed
        else "FAILED: the heatmaps hardly change when the model knows nothing"
    )
    empty = int((np.ptp(checked.steps[0].maps, axis=(1, 2)) == 0).sum())
    left_out = f", {empty} of them without a heatmap and left out" if empty else ""
    print(f"{images} images{left_out}: {verdict}")
