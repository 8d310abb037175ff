"""Trains each kind of model on the same folds of the patients, and compares them.

    python -m benchmarks.models ../shared/data [--folds N] [--only FOLD …] [--final]

For each fold: `custom_cnn`, `mobilenet` and `mobilenet_robust`; the average of the last
two, `ensemble`; and `distilled`, which is `mobilenet_robust` once more, with the
ensemble as its teacher. Every figure is of patients that the fold holds out: AUC,
sensitivity and specificity at the threshold that the fold's own validation patients
chose; the same as the mean over all of `corruptions.CORRUPTIONS`, of some of these
images; and the time of an image in batches of 32. What is trained already is not
trained again, and a training that was killed goes on.

`--final` trains the model in the box, `mobilenet_robust`, on the trainer's own division
of the patients; the folds' held-out patients choose its thresholds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from beam_pipeline import saved_model
from beam_pipeline.saved_model import SavedModel
from benchmarks.corruptions import Judge, scores, table
from trainer.data import dataset, pixels, split
from trainer.data.dataset import Examples, Naming
from trainer.data.split import Division
from trainer.evaluation import delong

_WEIGHTS = "imagenet_weights/mobilenet_1_0_224_tf_no_top.h5"
_BATCH = 32
_ROUNDS = 8
# Of each fold, so many images are corrupted, thirty times each.
_CORRUPTED = 240
MEMBERS = ("mobilenet", "mobilenet_robust")
BOX = "mobilenet_robust"
KINDS = ("custom_cnn", *MEMBERS, "ensemble", "distilled")


@dataclass(frozen=True)
class Place:
    """Where the data is, where models go, and which fold is held out.

    Attributes:
        data: the folder with `chest_xray_224` and the weights.
        output: of all models.
        fold: `K/N`; empty for the trainer's own division.
    """

    data: Path
    output: Path
    fold: str

    def model(self, kind: str) -> Path:
        """The directory of one model."""
        name = f"fold-{self.fold.replace('/', '-of-')}" if self.fold else "final"
        return self.output / name / kind


def commands(kind: str, place: Place, folds: Sequence[Place] = ()) -> list[str]:
    """The trainer's command line for one model; `folds` choose its thresholds."""
    shared = [
        f"--data={place.data / 'chest_xray_224'}",
        f"--output={place.model(kind)}",
    ]
    shared += ["--card=trainer/cards/paediatric_pneumonia.toml"]
    shared += [f"--fold={place.fold}"] if place.fold else []
    if kind == "ensemble":
        return ["ensemble", *map(str, map(place.model, MEMBERS)), *shared]
    weights = "none" if kind == "custom_cnn" else str(place.data / _WEIGHTS)
    shared += [f"--cache={place.output / 'cache'}", f"--weights={weights}"]
    if kind == "distilled":
        teacher = place.model("ensemble").with_name("ensemble.training")
        shared += [f"--teacher={teacher / 'predictions.parquet'}"]
        shared += ["--set=distillation=0.7"]
    recipe = BOX if kind == "distilled" else kind
    if kind == "custom_cnn":
        shared += ["--set=stages.0.epochs=12", "--set=stages.0.learning_rate=3e-4"]
    for fold in folds:
        logs = fold.model(kind).with_name(f"{kind}.training")
        shared += [f"--tuned_on={logs / 'predictions.parquet'}"]
    if not place.fold:
        shared += ["--require=auc=0.95", "--require=accuracy=0.9"]
    return ["train", f"--recipe={recipe}", *shared]


def train(kinds: Iterable[str], place: Place, folds: Sequence[Place] = ()) -> None:
    """Every model that is not there yet."""
    for kind in kinds:
        if not place.model(kind).exists():
            command = [sys.executable, "-m", "trainer", *commands(kind, place, folds)]
            print(time.strftime("%H:%M:%S"), place.model(kind), flush=True)
            place.model(kind).parent.mkdir(parents=True, exist_ok=True)
            with place.model(kind).with_name(f"{kind}.log").open("a") as log:
                subprocess.run(command, check=True, stdout=log, stderr=log)


def figures(model: SavedModel, place: Place, examples: Examples) -> dict[str, float]:
    """One model on the patients that its fold holds out."""
    manifest = model.manifest
    number, count = (int(part) for part in place.fold.split("/"))
    division = Division(seed=manifest.training_data.seed, fold=number, folds=count)
    held_out = examples.chosen(split.split(examples, division) == "held_out")
    images = np.asarray(
        pixels.read(held_out, manifest.preparation, place.output / "cache")
    )
    indices = [examples.classes.index(finding) for finding in manifest.findings]
    positives = held_out.labels[:, indices].any(axis=1)
    judge = Judge(model, positives, scores(model, images))
    plain = judge.figures(images)
    few = np.random.default_rng(0).permutation(len(images))[:_CORRUPTED]
    part = Judge(model, positives[few], judge.plain[few])
    _, *changed = [found for _, _, found in table(part, images[few])]
    auc = delong.auc(positives, judge.plain, held_out.patients)
    return {
        "auc": plain.auc,
        "auc_low": auc.low,
        "auc_high": auc.high,
        "sensitivity": plain.sensitivity,
        "specificity": plain.specificity,
        "corrupted_auc": float(np.mean([f.auc for f in changed])),
        "corrupted_sensitivity": float(np.mean([f.sensitivity for f in changed])),
        "corrupted_specificity": float(np.mean([f.specificity for f in changed])),
        "worst_auc": min(f.auc for f in changed),
    }


def milliseconds(place: Place) -> dict[str, float]:
    """Of one image in batches of 32: the best of several rounds, all kinds in turn."""
    models = {kind: saved_model.load(place.model(kind)) for kind in KINDS}
    best = dict.fromkeys(KINDS, np.inf)
    for _ in range(_ROUNDS):
        for kind, model in models.items():
            preparation = model.manifest.preparation
            shape = (_BATCH, preparation.height, preparation.width, 1)
            batch = np.zeros(shape, np.uint8)
            start = time.perf_counter()
            model.infer(batch)
            taken = 1000 * (time.perf_counter() - start) / _BATCH
            best[kind] = min(best[kind], taken)
    return best


def judged(
    places: list[Place], examples: Examples
) -> dict[str, list[dict[str, float]]]:
    """The figures of each kind, fold by fold; kept, since corrupting takes minutes."""
    kept = places[0].output / "figures.json"
    known = json.loads(kept.read_text()) if kept.exists() else {}
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for kind in KINDS:
        for place in places:
            model = saved_model.load(place.model(kind))
            name = f"{kind} {place.fold} {_CORRUPTED} {model.digest}"
            if name not in known:
                known[name] = figures(model, place, examples)
                kept.write_text(json.dumps(known, indent=2))
            found[kind].append(known[name])
    return found


def rows(
    found: dict[str, list[dict[str, float]]], costs: dict[str, float]
) -> Iterator[str]:
    """A Markdown table: each fold's AUC with its interval, and means over the folds."""
    yield (
        "| model | AUC, by fold | AUC | sensitivity | specificity | AUC, corrupted "
        "| its worst | sensitivity, corrupted | specificity, corrupted | ms an image |"
    )
    yield "|" + "---|" * 10
    for kind, folds in found.items():
        mean = {name: np.mean([fold[name] for fold in folds]) for name in folds[0]}
        each = "; ".join(
            f"{f['auc']:.3f} ({f['auc_low']:.3f}–{f['auc_high']:.3f})" for f in folds
        )
        yield (
            f"| `{kind}` | {each} | {mean['auc']:.4f} | {mean['sensitivity']:.3f} "
            f"| {mean['specificity']:.3f} | {mean['corrupted_auc']:.4f} "
            f"| {mean['worst_auc']:.3f} | {mean['corrupted_sensitivity']:.3f} "
            f"| {mean['corrupted_specificity']:.3f} | {costs[kind]:.1f} |"
        )


def main() -> None:
    """Train and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument(
        "--only", type=int, nargs="+", metavar="FOLD", help="train these, 1 the first"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("benchmarks/results/models")
    )
    parser.add_argument(
        "--final", action="store_true", help="train the model in the box after them"
    )
    arguments = parser.parse_args()
    places = [
        Place(arguments.data, arguments.output, f"{number}/{arguments.folds}")
        for number in arguments.only or range(1, arguments.folds + 1)
    ]
    for place in places:
        train(KINDS, place)
    if arguments.final:
        train([BOX], Place(arguments.data, arguments.output, ""), places)
    examples = dataset.find(arguments.data / "chest_xray_224", Naming())
    for line in rows(judged(places, examples), milliseconds(places[0])):
        print(line)


if __name__ == "__main__":
    main()
