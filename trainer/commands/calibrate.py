"""python -m trainer calibrate: thresholds chosen again on a site's own labels.

The temperature too: see docs/site.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from beam_pipeline.calibration import SiteCalibration
    from beam_pipeline.manifest import Estimate, Manifest, OperatingPoint
    from trainer.evaluation.site_labels import Labelled


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the flags of `calibrate`."""
    add = parser.add_argument
    add(
        "--run",
        dest="results",
        type=Path,
        required=True,
        metavar="DIR",
        help="the --output of a job that scored the labelled images",
    )
    add("--run_id", metavar="ID", help="which of its runs, where there are several")
    add(
        "--labels",
        type=Path,
        required=True,
        metavar="CSV",
        help="one of sop_instance_uid, study_instance_uid, source_uri or path, and "
        "label: the name of a class; multi-label: a column for each class, 0 or 1; "
        "optionally patient",
    )
    add(
        "--model",
        type=Path,
        metavar="MODEL_DIR",
        help="what scored them (default: the model in the box)",
    )
    add(
        "--output",
        type=Path,
        required=True,
        metavar="JSON",
        help="the file to make, for `python -m beam_pipeline score --calibration`",
    )
    add("--site", required=True, metavar="NAME", help="whose labels they are")
    add("--notes", metavar="TEXT", help="what else a reader of the file should know")


def run(arguments: argparse.Namespace) -> int:
    """Choose, judge, write and print; the exit code.

    Raises:
        ValueError: a model, run or labels that cannot be used, or too few of them.
        FileExistsError: there is a file already where this one should go.
    """
    from beam_pipeline import calibration, manifest
    from trainer.evaluation import site, site_labels

    if arguments.output.exists():
        raise FileExistsError(f"{arguments.output} exists; choose another --output")
    model_dir = arguments.model or manifest.DEFAULT_MODEL
    model = manifest.load(model_dir)
    digest = manifest.verify(model, model_dir)
    run_id = site_labels.finished_run(arguments.results, arguments.run_id)
    rows = site_labels.rows(arguments.results, run_id, digest)
    labelled = site_labels.join(rows, site_labels.read(arguments.labels, model))
    trial = site.trial(labelled, model)
    found = site.calibration(trial, digest, arguments.site, arguments.notes)
    calibration.save(found, arguments.output)
    print("\n".join(_report(labelled, model, site.before(trial), found)))
    print(f"{arguments.output} is written")
    return 0


def _report(
    labelled: Labelled,
    model: Manifest,
    before: Mapping[str, OperatingPoint],
    found: SiteCalibration,
) -> Iterator[str]:
    yield f"{found.site}: {found.images} labelled images of {found.patients} patients"
    if labelled.left_out:
        yield f"  {labelled.left_out} labelled files have no score of their own"
    if labelled.alone:
        yield f"  {labelled.alone} images name no patient: each counts as one"
    yield f"temperature {model.calibration.temperature:.3f} → {found.temperature:.3f}"
    for name, point in found.operating_points.items():
        yield name
        if name in before:
            yield f"  the model's  {_figures(before[name])}"
        yield f"  the site's   {_figures(point)}"


def _figures(point: OperatingPoint) -> str:
    thresholds = ", ".join(f"{each:.3f}" for each in point.thresholds)
    return (
        f"threshold {thresholds}  sensitivity {_estimate(point.sensitivity)}  "
        f"specificity {_estimate(point.specificity)}"
    )


def _estimate(figure: Estimate) -> str:
    return f"{figure.value:.3f} ({figure.low:.3f}–{figure.high:.3f})"
