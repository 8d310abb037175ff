"""python -m trainer compare: two models or more on the same images, side by side."""

from __future__ import annotations

import argparse
import json
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.evaluation.compare import Candidate, Comparison
    from trainer.evaluation.decisions import Decision

_SHOWN = ("auc", "average_precision", "sensitivity", "specificity", "ppv", "npv",
          "accuracy", "f1", "mcc", "brier_score")  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the flags of `compare`."""
    parser.add_argument(
        "models",
        type=Path,
        nargs="+",
        metavar="PREDICTIONS",
        help="two or more: folders that evaluate wrote, or predictions.parquet files "
        "of the same images; the first is the reference",
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="folder to make for the report"
    )
    parser.add_argument(
        "--name",
        action="append",
        help="of each model, in their order (default: of its folder or file)",
    )
    parser.add_argument(
        "--part",
        choices=("training", "validation", "held_out"),
        help="of predictions that come divided",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        action="append",
        metavar="X",
        help="of each model, in their order (default: that of its evaluation)",
    )
    parser.add_argument(
        "--operating_point",
        default="default",
        metavar="NAME",
        help="how to choose the threshold of a file, on its validation images",
    )
    parser.add_argument("--seed", type=int, default=1, help="of the resampling")


def run(arguments: argparse.Namespace) -> int:
    """Compare, write the folder, print all side by side; the exit code.

    Raises:
        ValueError: predictions that cannot be compared.
        OSError: a file that cannot be read, or an output that is not empty.
    """
    from trainer.evaluation import compare, comparison_report, report

    for flag in ("name", "threshold"):
        given = getattr(arguments, flag)
        if given and len(given) != len(arguments.models):
            raise ValueError(
                f"there are {len(arguments.models)} models and {len(given)} of --{flag}"
            )
    candidates = [
        _candidate(arguments, index) for index in range(len(arguments.models))
    ]
    comparison = compare.compare(candidates, arguments.seed)
    report.make_folder(arguments.output)
    comparison_report.write(comparison, arguments.output)
    _print(comparison)
    print(f"\n{arguments.output / 'report.html'}")
    return 0


def _candidate(arguments: argparse.Namespace, index: int) -> Candidate:
    from trainer.commands.evaluate import one_part
    from trainer.evaluation import decisions, predictions
    from trainer.evaluation.compare import Candidate

    path: Path = arguments.models[index]
    is_folder = path.is_dir()
    everything = predictions.load(path / "predictions.parquet" if is_folder else path)
    if arguments.threshold:
        decision = decisions.given(arguments.threshold[index], everything)
    elif is_folder:
        decision = _of_evaluation(path)
    else:
        decision = decisions.chosen(
            everything, arguments.operating_point, arguments.seed
        )
    name = arguments.name[index] if arguments.name else path.stem
    return Candidate(name, one_part(everything, arguments.part, path), decision)


def _of_evaluation(folder: Path) -> Decision:
    """The thresholds that a folder was evaluated at."""
    from trainer.evaluation.decisions import Decision

    document = json.loads((folder / "metrics.json").read_text("utf-8"))
    try:
        stated = document["decision"]
        exact = {name: _tuples(stated[name]) for name in ("thresholds", "ranges")}
        return Decision(**{**stated, **exact})
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{folder / 'metrics.json'} is not what evaluate writes: {error}"
        ) from error


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _print(comparison: Comparison) -> None:
    from trainer.evaluation import figures, report

    names = list(comparison.figures)
    shown = {
        metric: [figures.shown(found[metric]) for found in comparison.figures.values()]
        for metric in _SHOWN
    }
    width = 2 + max(map(len, [*names, *chain.from_iterable(shown.values())]))
    print(f"{'':28}" + "".join(f"{name:{width}}" for name in names))
    for metric, values in shown.items():
        label = report.LABELS[metric]
        print(f"  {label:26}" + "".join(f"{value:{width}}" for value in values))
    for pair in comparison.pairs:
        print(f"\n{pair.other} − {pair.reference}:")
        if pair.auc:
            found, p_value = pair.auc.estimate, report.p_value(pair.auc.p_value)
            print(f"  AUC {figures.shown(found)}, paired DeLong p {p_value}")
        print(f"  decisions: exact McNemar p {report.p_value(pair.mcnemar.p_value)}")
