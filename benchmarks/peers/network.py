"""The network of a model as a .keras file of Keras's own layers, for the peers.

    python -m benchmarks.peers.network MODEL_DIR MODEL.keras

With the weights of the model: random ones fade to numbers so small that arithmetic on
them takes another time.
"""

from __future__ import annotations

import sys
from pathlib import Path

from beam_pipeline import document, saved_model
from trainer import architectures
from trainer.recipes import Recipe


def main(model_dir: Path, network: Path) -> None:
    """Write it.

    Raises:
        ValueError: the model is more than one network of its recipe.
    """
    model = saved_model.load(model_dir)
    manifest = model.manifest
    recipe = document.build(Recipe, dict(manifest.recipe), "recipe")
    built = architectures.build(recipe, len(manifest.classes), weights=None)
    temperature = manifest.calibration.temperature
    written = architectures.plain(built, manifest.task, temperature)
    variables = {each.name.split(":")[0]: each for each in model.serve.variables}
    paths = [weight.path for weight in written.weights]
    if sorted(paths) != sorted(variables):
        raise ValueError(
            f"{model_dir} is not one network of the recipe in its manifest, which is "
            "what the peers can load; give --model one that is"
        )
    written.set_weights([variables[path].numpy() for path in paths])
    written.save(network)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
