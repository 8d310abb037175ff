"""python -m trainer ensemble: average several models within one SavedModel."""

from __future__ import annotations

import argparse
from pathlib import Path

from trainer.commands import train


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the flags of `ensemble`."""
    parser.add_argument(
        "members",
        type=Path,
        nargs="+",
        metavar="MODEL_DIR",
        help="two models or more, of the same classes, preparation and split",
    )
    train.add_data(parser)
    train.add_output(parser)
    parser.add_argument(
        "--card",
        type=Path,
        metavar="TOML",
        help="intended use, findings, eligibility (default: what the members say, if "
        "they all say the same)",
    )
    train.add_terms(parser)


def run(arguments: argparse.Namespace) -> int:
    """Combine; the exit code."""
    from beam_pipeline import saved_model

    saved_model.tensorflow()
    from trainer import card, ensemble

    members = ensemble.members(arguments.members)
    combination = ensemble.Combination(
        members=members,
        data=arguments.data,
        naming=train.naming(arguments),
        division=train.division(arguments),
        output=arguments.output,
        card=card.load(arguments.card) if arguments.card else ensemble.card(members),
        seed=arguments.seed,
        cache=arguments.cache,
        terms=train.terms(arguments),
    )
    train.say(combination.output, ensemble.combine(combination))
    return 0
