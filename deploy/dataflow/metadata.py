"""Write the Flex Template's metadata.json from the flags of `score`.

python deploy/dataflow/metadata.py
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from beam_pipeline import flag_values, options

# The launcher is gone when these would be acted upon.
AFTER_THE_RUN = ("keep_runs", "metrics_file")
# What the workers read and write.
_IN_A_BUCKET = (
    "input",
    "input_manifest",
    "output",
    "metadata",
    "model",
    "pseudonym_key_file",
)
_BUCKET = "^gs://[^/]+(/.*)?$"
_PATTERNS = {
    flag_values.positive: "^[1-9][0-9]*$",
    flag_values.share: r"^(0|1|0?\.[0-9]+|[01]\.0*)$",
    flag_values.duration: r"^[0-9]+(\.[0-9]+)?$",
    flag_values.seconds: r"^[0-9]+(\.[0-9]+)?$",
    flag_values.run_id: r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$",
}
# Flags of Beam's that Dataflow has no field of its own for.
_OF_BEAM = (
    {
        "name": "sdk_container_image",
        "label": "Image of the workers",
        "helpText": "the image that the Dockerfile builds with --target dataflow; "
        "best the one that this template was built from",
        "regexes": ["^[a-z0-9.-]+/.+:.+$"],
    },
    {
        "name": "dataflow_service_options",
        "label": "GPU",
        "helpText": "worker_accelerator=type:nvidia-l4;count:1;install-nvidia-driver "
        "for a GPU on each machine (default: none)",
        "isOptional": True,
        "regexes": ["^worker_accelerator=type:nvidia-.+;count:[1-9][0-9]*;.+$"],
    },
    {
        "name": "flexrs_goal",
        "label": "Flexible scheduling",
        "helpText": "COST_OPTIMIZED: begin within six hours, for less; without a GPU",
        "isOptional": True,
        "regexes": ["^(COST|SPEED)_OPTIMIZED$"],
    },
)


def document() -> dict[str, Any]:
    """The metadata, as Dataflow's ParameterMetadata has it."""
    parser = argparse.ArgumentParser(add_help=False)
    options.add_arguments(parser)
    return {
        "name": "Score radiographs",
        "description": "Scores every radiograph below a gs:// path into Parquet, one "
        "row per file. Research only.",
        "parameters": [
            *(
                _parameter(action)
                for action in parser._actions
                if action.dest not in AFTER_THE_RUN
            ),
            *_OF_BEAM,
        ],
    }


def _parameter(action: argparse.Action) -> dict[str, Any]:
    # The default model is a path of this machine, and its help says what it is.
    values = {"default": action.default, "prog": "score"}
    found: dict[str, Any] = {
        "name": action.option_strings[0].removeprefix("--"),
        "label": action.dest.replace("_", " ").capitalize(),
        "helpText": (action.help or "") % values,
    }
    if not action.required:
        found["isOptional"] = True
    if action.nargs == 0:
        found["regexes"] = ["^(true|false)$"]
    elif action.dest in _IN_A_BUCKET:
        found["regexes"] = [_BUCKET]
    elif action.type in _PATTERNS:
        found["regexes"] = [_PATTERNS[action.type]]
    return found


if __name__ == "__main__":
    text = json.dumps(document(), indent=2, ensure_ascii=False)
    Path(__file__).with_suffix(".json").write_text(text + "\n", "utf-8")
