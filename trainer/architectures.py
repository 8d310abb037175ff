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
        middle: the layer that sees what lies where, and no longer each pixel; the
            outlier score is made of its output.
    """

    build: Callable[..., keras.Model]
    scale: float
    offset: float
    middle: str


BACKBONES: dict[str, Backbone] = {
    "mobilenet": Backbone(
        keras.applications.MobileNet, 1 / 127.5, -1.0, middle="conv_pw_11_relu"
    ),
}
# Places of a layout along each side, or a few more.
_PLACES = 7


def build(recipe: Recipe, classes: int, weights: Path | None) -> keras.Model:
    """The network: (batch, height, width, 1), 0–255 → logits, embedding, layout.

    The layout, (batch, about 7, about 7, channels), is what the middle of the backbone
    sees at each place of the image.

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
    tapped = keras.Model(
        network.inputs[0],
        [network.outputs[0], network.get_layer(backbone.middle).output],
    )
    run = tapped if weights is None else _InferenceMode(tapped)
    features, middle = run(colour)
    pool = max(1, middle.shape[1] // _PLACES)
    layout = keras.layers.AveragePooling2D(pool, name="layout")(middle)
    embedding = keras.layers.GlobalAveragePooling2D(name="embedding")(features)
    kept = keras.layers.Dropout(recipe.dropout)(embedding)
    logits = keras.layers.Dense(classes, name="logits")(kept)
    return keras.Model(image, [logits, embedding, layout], name=recipe.backbone)


def backbone_of(network: keras.Model) -> keras.Model:
    """The backbone within a network that `build` made."""
    layers = (getattr(layer, "within", layer) for layer in network.layers)
    return next(layer for layer in layers if isinstance(layer, keras.Model))


class _InferenceMode(keras.layers.Layer):
    """A network that runs in inference mode, whatever runs around it.

    `network(image, training=False)` is not enough: Keras 3 hands the mode of a
    functional model on to all of its layers, over what they were called with
    (keras-team/keras#20285).
    """

    def __init__(self, within: keras.Model) -> None:
        super().__init__(name="backbone")
        self.within = within

    def call(self, image: Any) -> Any:
        return self.within(image, training=False)


def _width(recipe: Recipe) -> dict[str, Any]:
    return {"alpha": recipe.width} if recipe.backbone == "mobilenet" else {}
