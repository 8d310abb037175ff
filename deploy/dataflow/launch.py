"""Where the Flex Template's launcher begins: the template's parameters → `score`.

Google's launcher gives every parameter as `--name=value`, and adds flags of its own
with which the job is described rather than run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from beam_pipeline import options
from beam_pipeline.__main__ import main
from beam_pipeline.beam_flags import beam_flags


def arguments(given: Sequence[str]) -> list[str]:
    """The arguments of `score` for a launcher's.

    Parameters always have a value; switches have none. What neither `score` nor Beam
    knows is the launcher's own, and goes on unchecked: the parameters themselves were
    checked against metadata.json.
    """
    parser = argparse.ArgumentParser(add_help=False)
    options.add_arguments(parser)
    actions = {action.option_strings[0]: action for action in parser._actions}
    beams = beam_flags()
    known, unknown = [], []
    for argument in given:
        name, _, value = argument.partition("=")
        if name in actions and actions[name].nargs == 0:
            known += [name] if value == "true" else []
        elif name in actions or name in beams:
            known.append(argument)
        else:
            unknown.append(argument)
    return [*known, "--", *unknown]


if __name__ == "__main__":
    sys.exit(main(["score", *arguments(sys.argv[1:])]))
