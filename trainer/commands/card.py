"""python -m trainer card: print a model's card, as Markdown."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the argument of `card`."""
    parser.add_argument(
        "model_dir",
        nargs="?",
        type=Path,
        metavar="MODEL_DIR",
        help="whose card (default: the model in the box)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print it; the exit code.

    Raises:
        ManifestError: there is no model, or its files are not those of its manifest.
    """
    from beam_pipeline import manifest
    from trainer import model_card

    print(model_card.of(arguments.model_dir or manifest.DEFAULT_MODEL), end="")
    return 0
