"""The model card: what a manifest and held-out predictions say, as Markdown.

Its parts are those of Mitchell et al.: Model Cards for Model Reporting, FAT* 2019.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from beam_pipeline import manifest as manifests
from beam_pipeline.document import Mismatch, build
from beam_pipeline.manifest import MANIFEST_PATH, Manifest
from trainer import recipes
from trainer.evaluation import decisions, evaluate, report, subgroups
from trainer.evaluation.intervals import Absent, Reported
from trainer.evaluation.predictions import Predictions
from trainer.recipes import Recipe, Stage

FILE = "MODEL_CARD.md"
PREVALENCES = (0.01, 0.02, 0.05, 0.1)
_CALIBRATION = (
    "brier_score",
    "ece_equal_mass",
    "calibration_slope",
    "calibration_intercept",
)
_TASKS = {
    "binary": "classifier with two classes",
    "multiclass": "classifier with one class of several for each image",
    "multilabel": "classifier with any number of classes for each image",
}
_RESIZE = {
    "stretch": "stretched whatever its aspect ratio is",
    "pad": "with its aspect ratio, padded with black",
}


def of(model_dir: Path) -> str:
    """The card that lies in a model, or one from its manifest alone.

    Raises:
        ManifestError: there is no model, or its files are not those of its manifest.
    """
    manifest = manifests.load(model_dir)
    manifests.verify(manifest, model_dir)
    path = (model_dir / MANIFEST_PATH).with_name(FILE)
    return path.read_text("utf-8") if path.exists() else text(manifest)


def text(manifest: Manifest, held_out: Predictions | None = None) -> str:
    """The card as Markdown.

    Args:
        manifest: of the model.
        held_out: its predictions on held-out patients, which give calibration and
            subgroups; None where the manifest is all there is.
    """
    found = None if held_out is None else _found(manifest, held_out)
    default = manifest.operating_points["default"]
    rates = {"sensitivity": default.sensitivity, "specificity": default.specificity}
    page = (
        _environment()
        .get_template("model_card.md")
        .render(
            m=manifest,
            data=manifest.training_data,
            verdict=_verdict(manifest),
            task=_TASKS[manifest.task],
            recipe=_recipe(manifest.recipe),
            resize=_RESIZE[manifest.preparation.resize],
            prevalences={p: evaluate.at_prevalence(rates, p) for p in PREVALENCES},
            calibration=found and {name: found[name] for name in _CALIBRATION},
            subgroups=held_out and _subgroups(manifest, held_out),
            without_subgroups=(
                "Not in the manifest: evaluate the model on images whose patients are "
                "known."
                if held_out is None
                else "Nothing is known of the patients beside their images."
            ),
        )
    )
    return re.sub(r"\n{3,}", "\n\n", page).strip() + "\n"


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("trainer", "reports"),
        # Markdown, not HTML.
        autoescape=False,  # noqa: S701
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=report.number,
        interval=report.interval,
        label=lambda name: report.LABELS.get(name, name),
        share=lambda value: f"{value:.4g}",
        spans=_spans,
        told=_told,
    )
    environment.tests["absent"] = lambda figure: isinstance(figure, Absent)
    return environment


def _spans(pairs: Sequence[tuple[float, float]] | None) -> str:
    return ", ".join(f"{low:.4g}–{high:.4g}" for low, high in pairs or ()) or "–"


def _told(figure: Reported) -> str:
    if isinstance(figure, Absent):
        return figure.reason
    return f"{report.number(figure)} ({report.interval(figure)})"


def _verdict(manifest: Manifest) -> str:
    if manifest.objection is None:
        return "**Blessed**: it reaches what was asked of it. Research only."
    return f"**Not blessed**: {manifest.objection}. Research only."


def _found(manifest: Manifest, held_out: Predictions) -> evaluate.Figures:
    flagged = decisions.of_manifest(manifest, "default").flagged(held_out)
    resamples = evaluate.resampled(held_out.patients, manifest.training_data.seed)
    return evaluate.figures(evaluate.scored_of(held_out), flagged, resamples)


def _subgroups(
    manifest: Manifest, held_out: Predictions
) -> tuple[subgroups.Subgroup, ...]:
    decision = decisions.of_manifest(manifest, "default")
    return subgroups.subgroups(held_out, decision.flagged(held_out))


def _recipe(document: Mapping[str, Any]) -> list[str]:
    """A recipe in words; one of another kind field by field."""
    try:
        recipe: Recipe = build(Recipe, dict(document), "recipe")
    except Mismatch:
        return [
            f"{name.replace('_', ' ')}: {_listed(value)}"
            for name, value in document.items()
        ]
    return [
        *_network(recipe),
        *(_stage(number, stage) for number, stage in enumerate(recipe.stages, 1)),
        *_learning(recipe),
    ]


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _network(recipe: Recipe) -> list[str]:
    width = f", width {recipe.width:g}" if recipe.width != 1 else ""
    dense = " + ".join(map(str, recipe.head.dense))
    head = f"{recipe.head.pooling} pooling" + (f", dense {dense}" if dense else "")
    lines = [f"network {recipe.backbone}{width}; head: {head}"]
    if recipe.members > 1:
        lines.append(
            f"{recipe.members} members, trained with different seeds, averaged"
        )
    if recipe.test_time_augmentation:
        lines.append("averaged over an image and its mirror image")
    return lines


def _stage(number: int, stage: Stage) -> str:
    learns = f"the head and the last {stage.unfrozen:.0%} of the layers"
    if stage.unfrozen in (0, 1):
        learns = "the whole network" if stage.unfrozen else "the head alone"
    epochs = "one epoch" if stage.epochs == 1 else f"at most {stage.epochs} epochs"
    return (
        f"stage {number}: {learns}, {epochs} from a learning rate of "
        f"{stage.learning_rate:g}"
    )


def _learning(recipe: Recipe) -> list[str]:
    varied = recipes.variations(recipe.augmentation)
    lines = [
        f"{recipe.optimizer}, {recipe.batch_size} images a step, schedule "
        f"{recipe.schedule}; the best epoch by validation {recipe.monitor}",
        f"classes evened out by: {recipe.imbalance.replace('_', ' ')}",
        f"images varied by: {', '.join(varied) or 'nothing'}",
    ]
    if recipe.label_smoothing:
        lines.append(f"label smoothing {recipe.label_smoothing:g}")
    if recipe.weight_average:
        momentum = recipe.weight_average
        lines.append(f"moving average of the weights, momentum {momentum:g}")
    if recipe.distillation:
        lines.append(f"{recipe.distillation:.0%} of each label is a teacher's answer")
    return lines
