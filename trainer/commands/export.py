"""python -m trainer export: a Keras model of somebody else's → a model directory.

Its probabilities stay what they are; labelled images that it has not learned from
choose temperature and thresholds, and judge it.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from trainer.commands import train

_SCALES = ("0_255", "0_1", "minus1_1", "imagenet_caffe", "imagenet_torch")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the flags of `export`."""
    add = parser.add_argument
    add(
        "--from",
        dest="model_file",
        type=Path,
        required=True,
        metavar="FILE",
        help="a .keras or .h5 file; one with Lambda layers, which are code, is refused",
    )
    add(
        "--classes",
        required=True,
        metavar="A,B",
        help="of its output, in that order; of one unit, what 0 and 1 mean",
    )
    add("--findings", metavar="B", help="which of them are findings; see --card")
    add(
        "--scale",
        required=True,
        choices=_SCALES,
        help="the range of pixels that it was trained on; imagenet_… are those of "
        "keras.applications",
    )
    add("--resize", choices=("stretch", "pad"), default="stretch", help="as trained")
    add("--image_size", type=int, metavar="N", help="where the model takes any size")
    add(
        "--activation",
        choices=("sigmoid", "softmax", "none"),
        help="what its output is, where the last layer does not show it",
    )
    train.add_data(parser)
    train.add_output(parser)
    add("--card", type=Path, metavar="TOML", help="intended use, findings, eligibility")
    train.add_terms(parser)


def run(arguments: argparse.Namespace) -> int:
    """Export; the exit code."""
    from beam_pipeline import saved_model

    saved_model.tensorflow()
    from trainer import card as cards
    from trainer import imported

    card = cards.load(arguments.card) if arguments.card else cards.Card()
    if arguments.findings:
        card = replace(card, findings=tuple(arguments.findings.split(",")))
    side = arguments.image_size
    division = train.division(arguments)
    what = imported.Import(
        model_file=arguments.model_file,
        opened=imported.load(arguments.model_file),
        classes=tuple(arguments.classes.split(",")),
        scale=arguments.scale,
        resize=arguments.resize,
        size=None if side is None else (side, side),
        activation=arguments.activation,
        data=arguments.data,
        naming=train.naming(arguments),
        division=replace(division, learned_from=False),
        output=arguments.output,
        card=card,
        seed=arguments.seed,
        cache=arguments.cache,
        terms=train.terms(arguments),
    )
    train.say(what.output, imported.make(what))
    return 0
