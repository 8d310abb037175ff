"""A comparison → a folder: one page, its figures, and all of it as data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from beam_pipeline.manifest import Estimate
from trainer.evaluation import curves, evaluate, figures, report
from trainer.evaluation.compare import Candidate, Comparison
from trainer.evaluation.intervals import Reported
from trainer.evaluation.report import Drawn


def write(comparison: Comparison, output: Path) -> None:
    """Write report.html, comparison.json, two tables and figures.

    Args:
        comparison: what is said.
        output: an empty folder.
    """
    drawn = report.save_figures(_drawn(comparison), output / "figures")
    of = comparison.candidates[0].predictions
    first = next(iter(comparison.figures.values()))
    report.write_json(output / "comparison.json", _document(comparison))
    _write_tables(comparison, output)
    report.render(
        "comparison.html",
        output / "report.html",
        title=" and ".join(each.name for each in comparison.candidates) + ", compared",
        comparison=comparison,
        task=of.task,
        images=len(of),
        patients=len(set(of.patients)),
        positives=int(of.positives.sum()),
        findings=of.findings,
        names=report.in_order(first),
        figures=drawn,
        resamples=evaluate._RESAMPLES,
    )


def _drawn(comparison: Comparison) -> Iterator[Drawn]:
    candidates, found = comparison.candidates, comparison.figures
    of = candidates[0].predictions
    if of.positives.any() and not of.positives.all():
        yield from _ordering(comparison)
    if of.task != "multilabel":
        yield Drawn(
            "confusion_matrix_comparison",
            "Labels in rows, decisions in columns; below each count its share of the "
            "row.",
            figures.confusion(
                {
                    each.name: curves.confusion(
                        of.labels, each.decision.labels(each.predictions)
                    )
                    for each in candidates
                },
                of.classes,
            ),
            wide=True,
        )
    yield Drawn(
        "metrics_comparison",
        "The main figures of each model with their 95 % intervals.",
        figures.side_by_side(
            {
                report.LABELS[metric]: {
                    name: each[metric] for name, each in found.items()
                }
                for metric in (
                    *("auc", "average_precision", "sensitivity", "specificity"),
                    *("ppv", "npv", "accuracy", "f1"),
                )
            }
        ),
        wide=True,
    )


def _ordering(comparison: Comparison) -> Iterator[Drawn]:
    positives = comparison.candidates[0].predictions.positives
    scores = {each.name: each.predictions.scores for each in comparison.candidates}
    found = comparison.figures
    yield Drawn(
        "roc_comparison",
        "Sensitivity against false alarms of each model, at every threshold.",
        figures.roc(
            {name: curves.roc(positives, of) for name, of in scores.items()},
            {name: each["auc"] for name, each in found.items()},
            {
                each.name: (1 - specificity.value, sensitivity.value)
                for each in comparison.candidates
                for specificity, sensitivity in [_rates(comparison, each)]
                if isinstance(specificity, Estimate)
                and isinstance(sensitivity, Estimate)
            },
        ),
    )
    yield Drawn(
        "precision_recall_comparison",
        "Precision against recall of each model, at the prevalence of these images.",
        figures.precision_recall(
            {n: curves.precision_recall(positives, of) for n, of in scores.items()},
            {name: each["average_precision"] for name, each in found.items()},
            {},
        ),
    )


def _rates(comparison: Comparison, candidate: Candidate) -> tuple[Reported, Reported]:
    found = comparison.figures[candidate.name]
    return found["specificity"], found["sensitivity"]


def _document(comparison: Comparison) -> dict[str, object]:
    of = comparison.candidates[0].predictions
    return {
        "schema_version": 1,
        "images": len(of),
        "patients": len(set(of.patients)),
        "images_with_finding": int(of.positives.sum()),
        "classes": of.classes,
        "findings": of.findings,
        "seed": comparison.seed,
        "resamples": evaluate._RESAMPLES,
        "reference": comparison.candidates[0].name,
        "decisions": {each.name: each.decision for each in comparison.candidates},
        "figures": comparison.figures,
        "pairs": comparison.pairs,
    }


def _write_tables(comparison: Comparison, output: Path) -> None:
    report.write_csv(
        output / "performance_metrics.csv",
        ("model", "metric", *report.FIGURE_COLUMNS),
        (
            (model, name, *report.cells(found[name]))
            for model, found in comparison.figures.items()
            for name in report.in_order(found)
        ),
    )
    report.write_csv(
        output / "differences.csv",
        ("model", "reference", "group", "metric", *report.FIGURE_COLUMNS),
        (
            (pair.other, pair.reference, group, name, *report.cells(found[name]))
            for pair in comparison.pairs
            for group, found in (
                ("finding", pair.differences),
                ("overall", pair.overall),
            )
            for name in report.in_order(found)
        ),
    )
