"""The network of a model as a .keras file of Keras's own layers, for the peers.

    python -m benchmarks.peers.network MODEL_DIR MODEL.keras

Its weights are random: they cost the same time.
"""

from __future__ import annotations

import sys
from pathlib import Path

from beam_pipeline import document, manifest
from trainer import architectures
from trainer.recipes import Recipe


def main(model_dir: Path, network: Path) -> None:
    """Write it."""
    described = manifest.load(model_dir)
    recipe = document.build(Recipe, dict(described.recipe), "recipe")
    built = architectures.build(recipe, len(described.classes), weights=None)
    architectures.plain(built, described.task, temperature=1.0).save(network)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
