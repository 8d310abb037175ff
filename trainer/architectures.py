"""Networks: a backbone from `BACKBONES`, its own scaling, and a head, in one model."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from trainer import normalization
from trainer.data.dataset import Task
from trainer.recipes import Head, Recipe

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class Backbone:
    """A network without its top, and the range that its weights expect.

    Attributes:
        build: its constructor, as in `keras.applications`.
        scale: 0–255 is multiplied by these, one for each of the three channels,
        offset: and these are added.
        middle: the layer that sees what lies where, and no longer each pixel; the
            outlier score is made of its output.
        smallest: the least height and width that it can take.
        complete: what is to be done once weights were loaded from a file.
    """

    build: Callable[..., keras.Model]
    scale: Channels
    offset: Channels
    middle: str
    smallest: int = 32
    complete: Callable[[keras.Model], None] | None = None


def _custom_cnn(
    *, include_top: bool, weights: str | None, input_shape: tuple[int, int, int]
) -> keras.Model:
    """Four blocks of 32 to 256 channels, each halved in size, as S1's."""
    layers = keras.layers
    image = keras.Input(input_shape)
    features = image
    for block, channels in enumerate((32, 64, 128, 256), start=1):
        features = layers.Conv2D(
            channels, 3, padding="same", use_bias=False, name=f"block{block}_conv"
        )(features)
        features = layers.BatchNormalization(name=f"block{block}_norm")(features)
        features = layers.ReLU(name=f"block{block}_relu")(features)
        features = layers.MaxPooling2D(name=f"block{block}_pool")(features)
    model = keras.Model(image, features, name="custom_cnn")
    if weights is not None:
        raise ValueError(
            "custom_cnn has no ImageNet weights; give --weights FILE or --weights none"
        )
    return model


def _divide_by_deviation(network: keras.Model) -> None:
    """Scale EfficientNet's input as its weights from ImageNet expect it.

    Their file says to divide by the root of the deviations. Keras puts the other root
    into the graph, and only where it downloads the file itself
    (tensorflow/tensorflow#49930).
    """
    # Its name has a number from the second network of a process on.
    kind = keras.layers.Normalization
    layer = next(layer for layer in network.layers if isinstance(layer, kind))
    mean, variance, *count = layer.get_weights()
    layer.set_weights([mean, variance * _DEVIATIONS, *count])
    layer.finalize_state()


_apps = keras.applications
_DEVIATIONS = np.array([0.229, 0.224, 0.225], np.float32)
# What each family of weights expects, by the name that Keras gives it: the mean of
# ImageNet taken away, in BGR; its deviation divided by as well; -1 to 1; 0 to 255.
_CAFFE = ((1.0,) * 3, (-103.939, -116.779, -123.68))
_TORCH = (
    (1 / (255 * 0.229), 1 / (255 * 0.224), 1 / (255 * 0.225)),
    (-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225),
)
_TF = ((1 / 127.5,) * 3, (-1.0,) * 3)
_SHARE = ((1 / 255,) * 3, (0.0,) * 3)
# EfficientNet scales by itself.
_AS_IS = ((1.0,) * 3, (0.0,) * 3)

BACKBONES: dict[str, Backbone] = {
    "mobilenet": Backbone(_apps.MobileNet, *_TF, middle="conv_pw_11_relu"),
    "custom_cnn": Backbone(_custom_cnn, *_SHARE, middle="block4_relu", smallest=16),
    "vgg16": Backbone(_apps.VGG16, *_CAFFE, middle="block5_conv1"),
    "resnet50": Backbone(_apps.ResNet50, *_CAFFE, middle="conv4_block6_out"),
    "inception_v3": Backbone(_apps.InceptionV3, *_TF, middle="mixed7", smallest=75),
    **{
        f"efficientnet_b{n}": Backbone(
            getattr(_apps, f"EfficientNetB{n}"),
            *_AS_IS,
            middle="block6a_expand_activation",
            complete=_divide_by_deviation,
        )
        for n in range(4)
    },
    "densenet121": Backbone(_apps.DenseNet121, *_TORCH, middle="pool4_relu"),
}
Weights = Path | Literal["imagenet"] | None

# Places of a layout along each side, or a few more.
_PLACES = 7


def require(recipe: Recipe) -> Backbone:
    """The backbone of a recipe.

    Raises:
        ValueError: there is none of that name, or it cannot take such small images,
            or not that width.
    """
    if recipe.backbone not in BACKBONES:
        raise ValueError(
            f"backbone is {recipe.backbone!r}, expected one of {', '.join(BACKBONES)}"
        )
    backbone = BACKBONES[recipe.backbone]
    if recipe.image_size < backbone.smallest:
        raise ValueError(
            f"image_size is {recipe.image_size}; {recipe.backbone} takes "
            f"{backbone.smallest} or more"
        )
    if recipe.width != 1 and recipe.backbone != "mobilenet":
        raise ValueError(
            f"width is {recipe.width:g}; {recipe.backbone} has one width, 1"
        )
    return backbone


def build(recipe: Recipe, classes: int, weights: Weights) -> keras.Model:
    """The network: (batch, height, width, 1), 0–255 → logits, embedding, layout.

    The layout, (batch, about 7, about 7, channels), is what the middle of the backbone
    sees at each place of the image. Within are two models: `body`, to the backbone's
    features and the layout, and `head`, from the features to logits and embedding.

    A backbone with weights runs in inference mode always: fine-tuning moves its weights
    and leaves the statistics of BatchNormalization as a large data set made them.

    Args:
        recipe: which backbone, how wide, what input size, which head.
        classes: how many logits.
        weights: a file with the backbone's Keras weights without top; `imagenet` has
            Keras fetch it; None starts at random.

    Raises:
        FileNotFoundError: weights that cannot be fetched: which file to bring.
        ValueError: an image size that the backbone cannot take, or weights that are not
            its own.
    """
    backbone = require(recipe)
    size = (recipe.image_size, recipe.image_size)
    image = keras.Input((*size, 1), name="image")
    body = _body(backbone, recipe, weights)
    features, layout = body(image)
    head = _head(recipe.head, features.shape[1:], classes)
    logits, embedding = head(features)
    return keras.Model(image, [logits, embedding, layout], name=recipe.backbone)


def backbone_of(network: keras.Model) -> keras.Model:
    """The backbone within a network that `build` made."""
    layers = network.get_layer("body").layers
    within = (getattr(layer, "within", layer) for layer in layers)
    return next(layer for layer in within if isinstance(layer, keras.Model))


def plain(network: keras.Model, task: Task, temperature: float) -> keras.Model:
    """A network that `build` made, of Keras's own layers alone: image → probabilities.

    The backbone is a copy, the head is shared. Statistics of BatchNormalization stay as
    they are, also if it is trained on.

    Args:
        network: what to take apart.
        task: decides between softmax and sigmoid.
        temperature: that logits are divided by.
    """
    body = network.get_layer("body")
    backbone = normalization.plain(backbone_of(network))
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    features, _ = backbone(body.get_layer("scaled").output)
    logits, _ = network.get_layer("head")(features)
    scaled = keras.layers.Rescaling(1 / temperature, name="calibrated")(logits)
    squashed = "sigmoid" if task == "multilabel" else "softmax"
    answer = keras.layers.Activation(squashed, name="probabilities")(scaled)
    return keras.Model(body.input, answer, name=network.name)


def unfreeze(network: keras.Model, share: float) -> None:
    """Let that share of the backbone's layers learn, counted from its end."""
    layers = backbone_of(network).layers
    frozen = round(len(layers) * (1 - share))
    for index, layer in enumerate(layers):
        layer.trainable = index >= frozen


def _body(backbone: Backbone, recipe: Recipe, weights: Weights) -> keras.Model:
    size = (recipe.image_size, recipe.image_size)
    image = keras.Input((*size, 1))
    scaled = [
        keras.layers.Rescaling(scale, offset)(image)
        for scale, offset in zip(backbone.scale, backbone.offset, strict=True)
    ]
    network = _network(backbone, recipe, weights)
    run = network if weights is None else _InferenceMode(network)
    features, middle = run(keras.layers.Concatenate(name="scaled")(scaled))
    pool = max(1, middle.shape[1] // _PLACES)
    layout = keras.layers.AveragePooling2D(pool, name="layout", dtype="float32")(middle)
    return keras.Model(image, [features, layout], name="body")


def _network(backbone: Backbone, recipe: Recipe, weights: Weights) -> keras.Model:
    width = {"alpha": recipe.width} if recipe.backbone == "mobilenet" else {}
    shape = (recipe.image_size, recipe.image_size, 3)
    construct = partial(backbone.build, include_top=False, input_shape=shape, **width)
    if weights == "imagenet":
        built = _fetched(construct, recipe.backbone)
    else:
        built = construct(weights=None)
    if isinstance(weights, Path):
        _load(built, weights, recipe)
        if backbone.complete is not None:
            backbone.complete(built)
    middle = built.get_layer(backbone.middle).output
    outputs = [built.outputs[0], middle]
    network = keras.Model(built.inputs[0], outputs, name="backbone")
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    return network if on_gpu else normalization.fused(network)


def _fetched(construct: Callable[..., keras.Model], backbone: str) -> keras.Model:
    try:
        return construct(weights="imagenet")
    # Keras raises a bare Exception where the download fails.
    except Exception as error:
        url = re.search(r"https://\S+\.h5", str(error))
        if url is None:
            raise
        raise FileNotFoundError(
            f"the ImageNet weights of {backbone} cannot be fetched from {url[0]}; "
            f"bring {url[0].rsplit('/', 1)[1]} from a machine that can, and give its "
            "path with --weights"
        ) from error


def _load(network: keras.Model, weights: Path, recipe: Recipe) -> None:
    try:
        network.load_weights(weights)
    # Keras and h5py raise whatever they meet in a file of another kind.
    except Exception as error:
        raise ValueError(
            f"{weights} holds no weights of {recipe.backbone} without its top "
            f"(width {recipe.width:g}): {str(error).splitlines()[0]}"
        ) from error


def _head(head: Head, shape: Sequence[int], classes: int) -> keras.Model:
    layers = keras.layers
    features = keras.Input(shape)
    if head.pooling == "flatten":
        embedding = layers.Flatten(name="embedding", dtype="float32")(features)
    else:
        embedding = layers.GlobalAveragePooling2D(name="embedding", dtype="float32")(
            features
        )
    kept: Any = embedding
    for units in head.dense:
        kept = layers.Dropout(head.dropout)(kept)
        kept = layers.Dense(units, activation="relu")(kept)
        if head.batch_normalization:
            kept = layers.BatchNormalization()(kept)
        embedding = kept
    kept = layers.Dropout(head.dropout)(kept)
    logits = layers.Dense(classes, name="logits", dtype="float32")(kept)
    return keras.Model(features, [logits, embedding], name="head")


class _InferenceMode(keras.layers.Layer):
    """A network that runs in inference mode, whatever runs around it.

    `network(image, training=False)` is not enough: Keras 3 hands the mode of a
    functional model on to all of its layers, over what they were called with
    (keras-team/keras#20285).
    """

    def __init__(self, within: keras.Model) -> None:
        super().__init__(name="frozen_statistics")
        self.within = within

    def call(self, image: Any) -> Any:
        return self.within(image, training=False)
