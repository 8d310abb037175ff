"""What checks the files of deploy/, and the command lines in them."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from beam_pipeline import options
from beam_pipeline.options import ScoringOptions

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
# Airflow and Kubernetes' schemas, in an environment of their own: make deploy-check.
PYTHON = ROOT / ".venv-deploy" / "bin" / "python"


def needed(tool: str | Path) -> pytest.MarkDecorator:
    """Skips where `tool` is not installed, but not where it is required."""
    is_here = shutil.which(tool) is not None or os.environ.get("REQUIRE_DEPLOY")
    return pytest.mark.skipif(not is_here, reason=f"needs {tool}: make deploy-check")


def run(*command: str | Path, **kwargs: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        **kwargs,
    )


def parsed(argv: Sequence[str]) -> ScoringOptions:
    """The options of `beam-pipeline score ARGV…`, none of which may be unknown."""
    parser = argparse.ArgumentParser()
    options.add_arguments(parser)
    return options.scoring_options(parser.parse_args(list(argv)), ())
