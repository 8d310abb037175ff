"""python -m trainer: from labelled images to a SavedModel that describes itself."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

# Each is a module of `trainer.commands`.
COMMANDS = {
    "explore": "look at a data set before training on it",
    "train": "train a model and export it with its manifest",
    "tune": "search for a better recipe on validation patients",
    "ensemble": "average several models within one SavedModel",
    "export": "make a model of somebody else's Keras file",
    "evaluate": "every figure of a model on labelled images",
    "compare": "models side by side on the same images",
    "calibrate": "choose thresholds again on a site's own labels",
    "predict": "label and confidence of single files",
    "explain": "show where in a radiograph a score comes from",
    "preview": "show how a recipe varies training images",
    "card": "print a model's card",
    "recipes": "the ways to train that there are, and their fields",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; the exit code: 0 done, 1 failed, 2 refused."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    # DatasetError, ManifestError and FileExistsError: what was given cannot be used.
    except (ValueError, OSError) as error:
        print(f"trainer: {error}", file=sys.stderr)
        return 2


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Adds a flag's default to its help, where there is one that says something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        says_nothing = action.default in (None, []) or action.default is False
        if says_nothing or "(default: " in (action.help or ""):
            return action.help
        return super()._get_help_string(action)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trainer", description=__doc__)
    subcommands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, what in COMMANDS.items():
        module = importlib.import_module(f"trainer.commands.{name}")
        command = subcommands.add_parser(
            name,
            help=what,
            description=module.__doc__,
            allow_abbrev=False,
            formatter_class=_Help,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
