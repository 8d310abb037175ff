"""Networks: a backbone from `BACKBONES`, its own scaling, and a head, in one model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from trainer.recipes import Recipe


@dataclass(frozen=True)
class Backbone:
    """A network without its top, and the range that its weights expect.

    Attributes:
        build: its constructor in `keras.applications`.
        scale: 0–255 is multiplied by this,
        offset: and this is added.
    """

    build: Callable[..., keras.Model]
    scale: float
    offset: float


BACKBONES: dict[str, Backbone] = {
    "mobilenet": Backbone(keras.applications.MobileNet, 1 / 127.5, -1.0),
}


def build(recipe: Recipe, classes: int, weights: Path | None) -> keras.Model:
    """The network: (batch, height, width, 1), 0–255 → logits, embedding.

    A backbone with weights runs in inference mode always: fine-tuning moves its weights
    and leaves the statistics of BatchNormalization as a large data set made them.

    Args:
        recipe: which backbone, how wide, what input size.
        classes: how many logits.
        weights: the backbone's Keras weights without top; None starts at random.
    """
    backbone = BACKBONES[recipe.backbone]
    size = (recipe.image_size, recipe.image_size)
    image = keras.Input((*size, 1), name="image")
    scaled = keras.layers.Rescaling(backbone.scale, backbone.offset)(image)
    colour = keras.layers.Concatenate()([scaled] * 3)
    network = backbone.build(
        include_top=False,
        weights=None if weights is None else str(weights),
        input_shape=(*size, 3),
        **_width(recipe),
    )
    features = network(colour) if weights is None else network(colour, training=False)
    embedding = keras.layers.GlobalAveragePooling2D(name="embedding")(features)
    kept = keras.layers.Dropout(recipe.dropout)(embedding)
    logits = keras.layers.Dense(classes, name="logits")(kept)
    return keras.Model(image, [logits, embedding], name=recipe.backbone)


def backbone_of(network: keras.Model) -> keras.Model:
    """The backbone within a network that `build` made."""
    return next(layer for layer in network.layers if isinstance(layer, keras.Model))


def _width(recipe: Recipe) -> dict[str, Any]:
    return {"alpha": recipe.width} if recipe.backbone == "mobilenet" else {}
