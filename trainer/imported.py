"""Somebody else's Keras model → a model directory of the contract.

Files are loaded in Keras's safe mode: one with a Lambda layer, which is code, is
refused, and so is one with layers that Keras does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import keras
import tensorflow as tf

from beam_pipeline.manifest import MAX_REDUCTION, Explanation, Manifest, Preparation
from trainer import run as runs
from trainer import train
from trainer.data import dataset
from trainer.data.dataset import DatasetError, Examples
from trainer.run import Setting
from trainer.serving import Scorer, Shape, grad_cam

Activation = Literal["sigmoid", "softmax", "none"]

_imagenet = keras.applications.imagenet_utils.preprocess_input
# 0–255 → what the model was trained on. Those of ImageNet are Keras's own.
SCALES: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "0_255": lambda pixels: pixels,
    "0_1": lambda pixels: pixels / 255,
    "minus1_1": lambda pixels: pixels / 127.5 - 1,
    "imagenet_caffe": lambda pixels: _imagenet(pixels, mode="caffe"),
    "imagenet_torch": lambda pixels: _imagenet(pixels, mode="torch"),
}
_ACTIVATIONS: dict[str, Activation] = {
    "sigmoid": "sigmoid",
    "softmax": "softmax",
    "linear": "none",
}


@dataclass(frozen=True)
class Opened:
    """A Keras model, taken apart.

    Attributes:
        network: image → places, embedding, output. Places are the features that
            Grad-CAM weighs, or the image where the model has none.
        channels: of its input, 1 or 3.
        size: height and width of its input; None where it takes any.
        units: of its output.
        output: what the output is: logits ("none"), or probabilities by that function;
            None where the model does not show it.
        activation: what the model itself made of its logits; None likewise.
        places: the layer that Grad-CAM weighs, and its height and width; or None.
    """

    network: keras.Model
    channels: int
    size: tuple[int, int] | None
    units: int
    output: Activation | None
    activation: Activation | None
    places: str | None


def load(path: Path) -> Opened:
    """The model in a `.keras` file, or in an `.h5` file of Keras 2 or 3.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no model, has layers that Keras does not know or that are
            code, or does not map one image to one row of numbers.
    """
    if not path.is_file():
        raise FileNotFoundError(f"--from {path}: there is no such file")
    try:
        model = keras.models.load_model(path, compile=False)
    # Keras and h5py raise whatever they meet.
    except Exception as error:
        raise ValueError(f"--from {path}: {_why(error)}") from error
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            f"--from {path} has {len(model.inputs)} inputs and {len(model.outputs)} "
            "outputs; one image in and one row of scores out are needed"
        )
    return _opened(model, path)


def _why(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "Lambda" in text:
        return (
            "it has a Lambda layer, which is code that would run here, and is refused. "
            "Build the model again with a layer of Keras's own in its place"
        )
    if "Unknown layer" in text or "custom object" in text or "deserialized" in text:
        return (
            "it has layers, losses or functions of its own, which Keras cannot load "
            f"without their code: {text[:300]}"
        )
    return f"Keras cannot load it: {text[:300]}"


def _opened(model: keras.Model, path: Path) -> Opened:
    model = _unwrapped(model)
    image, output = model.inputs[0], _shown(model.outputs[0])
    if len(image.shape) != 4 or image.shape[-1] not in (1, 3) or len(output.shape) != 2:
        raise ValueError(
            f"--from {path} maps {image.shape} to {output.shape}; (images, height, "
            "width, 1 or 3) to (images, units) is needed"
        )
    operation = output._keras_history.operation
    activation = _activation(operation)
    if isinstance(operation, keras.layers.Activation | keras.layers.Softmax):
        output = _inputs(output)[0] if activation else output
    elif isinstance(operation, keras.layers.Dense) and activation:
        operation.activation = keras.activations.linear
    places = next(_places(output, image), None)
    embedding = keras.layers.Flatten()(_before_last_dense(output))
    return Opened(
        network=keras.Model(
            image, [image if places is None else places, embedding, output]
        ),
        channels=image.shape[-1],
        size=None if None in image.shape[1:3] else tuple(image.shape[1:3]),
        units=output.shape[-1],
        output="none" if activation else None,
        activation=activation,
        places=None if places is None else _named(places),
    )


def _unwrapped(model: keras.Model) -> keras.Model:
    """The model within one that does nothing but call it."""
    output = model.outputs[0]
    inner = output._keras_history.operation
    if isinstance(inner, keras.Model) and _inputs(output)[0] is model.inputs[0]:
        return _unwrapped(inner)
    return model


def _shown(output: Any) -> Any:
    """What layers that change nothing pass on, as those that cast float16 do."""
    operation = output._keras_history.operation
    if not isinstance(operation, keras.layers.Activation):
        return output
    before = _inputs(output)[0]
    says_more = _activation(before._keras_history.operation) is not None
    return _shown(before) if _activation(operation) == "none" and says_more else output


def _activation(operation: Any) -> Activation | None:
    if isinstance(operation, keras.layers.Softmax):
        return "softmax"
    known = isinstance(operation, keras.layers.Dense | keras.layers.Activation)
    name = str(keras.activations.serialize(operation.activation)) if known else ""
    return _ACTIVATIONS.get(name)


def _inputs(tensor: Any) -> list[Any]:
    history = tensor._keras_history
    return list(history.operation._inbound_nodes[history.node_index].input_tensors)


def _places(output: Any, image: Any) -> Iterator[Any]:
    """Tensors that know places, the last one first, but for the image itself."""
    waiting, seen = [output], set()
    while waiting:
        tensor = waiting.pop(0)
        if id(tensor) in seen or tensor is image:
            continue
        seen.add(id(tensor))
        if len(tensor.shape) == 4 and tensor.shape[1:3] not in ((1, 1), (None, None)):
            yield tensor
        waiting += _inputs(tensor)


def _before_last_dense(output: Any) -> Any:
    """What goes into the last dense layer, or into the last layer of any kind."""
    tensor = output
    while not isinstance(tensor._keras_history.operation, keras.layers.Dense):
        before = _inputs(tensor)
        if len(before) != 1 or len(before[0].shape) != 2:
            return _inputs(output)[0]
        tensor = before[0]
    return _inputs(tensor)[0]


def _named(places: Any) -> str:
    return (
        f"{places._keras_history.operation.name}, {places.shape[1]} × "
        f"{places.shape[2]} places"
    )


class Imported(Scorer):
    """A Keras model behind its own preprocessing.

    Its probabilities are the model's own: calibration comes after.

    Args:
        opened: the model.
        shape: of the scorer.
        scale: a name of `SCALES`.
        activation: what its output is, where the model does not show it.
    """

    def __init__(
        self, opened: Opened, shape: Shape, scale: str, activation: Activation
    ) -> None:
        super().__init__()
        self.network = opened.network
        self.shape = shape
        self._channels = opened.channels
        self._scale = SCALES[scale]
        self._are_logits = (opened.output or activation) == "none"
        if opened.places is not None:
            height, width = shape.size
            self.explanation = Explanation(
                method="Grad-CAM", layer=opened.places, height=height, width=width
            )

    def __call__(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        _, embedding, logits = self._seen(image)
        return {"logits": logits, "embedding": tf.cast(embedding, tf.float32)}

    def heatmap(self, image: tf.Tensor, class_index: tf.Tensor) -> tf.Tensor:
        """See `grad_cam`."""
        with tf.GradientTape() as tape:
            pixels = self._pixels(image)
            tape.watch(pixels)
            places, _, output = self.network(pixels, training=False)
            odds = self.shape.log_odds(self._logits(output), class_index)
        gradients = tape.gradient(odds, places)
        return grad_cam(
            tf.cast(places, tf.float32),
            tf.cast(gradients, tf.float32),
            self.shape.size,
        )

    def _seen(self, image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        places, embedding, output = self.network(self._pixels(image), training=False)
        return places, embedding, self._logits(output)

    def _pixels(self, image: tf.Tensor) -> tf.Tensor:
        pixels = tf.cast(image, tf.float32)
        return self._scale(tf.repeat(pixels, self._channels, axis=-1))

    def _logits(self, output: tf.Tensor) -> tf.Tensor:
        output = tf.cast(output, tf.float32)
        one_for_two = output.shape[-1] == 1 and self.shape.classes == 2
        if self._are_logits:
            # The sigmoid of one logit is the softmax of it and 0.
            zero = tf.zeros_like(output)
            return tf.concat([zero, output], axis=1) if one_for_two else output
        if one_for_two:
            output = tf.concat([1 - output, output], axis=1)
        return self.shape.logits(output)


@dataclass(frozen=True, kw_only=True)
class Import(Setting):
    """What to import, and the images that choose its thresholds and judge it.

    Attributes:
        model_file: see `load`.
        opened: what was in it.
        classes: of its output, in that order; of one unit, what 0 and 1 mean.
        scale: a name of `SCALES`.
        resize: see `manifest.Preparation`.
        size: height and width, where the model takes any.
        activation: where the model does not show it.
    """

    model_file: Path
    opened: Opened
    classes: tuple[str, ...]
    scale: str
    resize: Literal["stretch", "pad"] = "stretch"
    size: tuple[int, int] | None = None
    activation: Activation | None = None

    @property
    def preparation(self) -> Preparation:
        """As the model wants it.

        Raises:
            ValueError: the size is open, or stated and another one.
        """
        size = self.opened.size or self.size
        if size is None or self.size not in (None, size):
            wanted = "any size" if size is None else f"{size[0]} × {size[1]}"
            raise ValueError(f"{self.model_file} takes {wanted}: see --image_size")
        return Preparation(
            height=size[0],
            width=size[1],
            resize=self.resize,
            max_reduction=MAX_REDUCTION,
        )


def make(what: Import) -> Manifest:
    """Calibrate, choose thresholds, evaluate and export; the manifest.

    Raises:
        DatasetError: images that cannot be used, or that have other classes.
        ValueError: the output, the scale or the size do not fit the model.
        FileExistsError: there is a model already where this one should go.
    """
    if what.output.exists():
        raise FileExistsError(f"{what.output} exists; choose another --output")
    if what.scale.startswith("imagenet") and what.opened.channels != 3:
        raise ValueError(f"--scale {what.scale} is of three channels; the model has 1")
    examples = _ordered(dataset.find(what.data, what.naming), what.classes)
    activation = _stated(what, examples)
    data = runs.prepared(what, examples)
    scorer = Imported(what.opened, data.shape, what.scale, activation)
    recipe = {
        "imported": what.model_file.name,
        "scale": what.scale,
        "channels": what.opened.channels,
        "activation": activation,
    }
    return train.finish(what, data, scorer, recipe)


def _ordered(examples: Examples, classes: tuple[str, ...]) -> Examples:
    """The examples with the classes in the model's order."""
    if set(classes) != set(examples.classes) or len(set(classes)) != len(classes):
        raise DatasetError(
            f"--classes {','.join(classes)}: the data has {', '.join(examples.classes)}"
            "; name each of them once, in the order of the model's output"
        )
    order = [examples.classes.index(name) for name in classes]
    return replace(examples, classes=classes, labels=examples.labels[:, order])


def _stated(what: Import, examples: Examples) -> Activation:
    """What makes probabilities of the model's logits, if that fits its classes."""
    shown, said = what.opened.activation, what.activation
    if shown is not None and said not in (None, shown):
        raise ValueError(f"--activation {said}: the model's last layer says {shown}")
    activation = shown or said
    if activation is None:
        raise ValueError(
            f"{what.model_file} does not end in a dense layer, a softmax or a sigmoid: "
            "say with --activation whether its output is sigmoid, softmax or none"
        )
    units, classes = what.opened.units, len(what.classes)
    each_alone = examples.task == "multilabel"
    one_for_two = units == 1 and classes == 2 and not each_alone
    fits = one_for_two or units == classes
    if activation != "none":
        fits &= (activation == "sigmoid") == (each_alone or one_for_two)
    if not fits:
        raise ValueError(
            f"{what.model_file} has {units} units ({activation}), and the data is "
            f"{examples.task} with {classes} classes. One sigmoid unit answers for two "
            "classes, softmax units for one class each, and sigmoid units for a table "
            "with the column labels"
        )
    return activation
