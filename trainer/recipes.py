"""Named recipes: everything that decides how a model is trained, one row each.

`RECIPES` is the whole list. The numbers are those that the projects they come from
give; where they give none, those of the paper of the network.
"""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from beam_pipeline.document import Mismatch, build, require

# A Gaussian is cut off at so many standard deviations.
BLUR_CUT_OFF = 2.5


def _within(owner: object, name: str, low: float, high: float) -> None:
    value = getattr(owner, name)
    expected = f"{low} or more" if high == math.inf else f"{low} to {high}"
    require(low <= value <= high and value < math.inf, name, value, expected)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How training images are varied; 0 turns a variation off.

    Attributes:
        rotation: largest angle, in degrees.
        shift: largest shift, as a share of height and width.
        shear: largest angle of shearing, in degrees.
        zoom: largest change of size, as a share.
        aspect: largest change of width against height, as a share.
        crop: largest share of each side that is cut away, at a random place; the rest
            fills the image.
        horizontal_flip: mirrors half of the images. It also mirrors the heart and the
            side marker, which a model of pneumonia does not need.
        vertical_flip: turns half of the images upside down, which no radiograph is.
        brightness: largest change, as a share of the full range.
        contrast: largest change, as a share.
        gamma: largest exponent, and 1 / it the smallest.
        blur: largest standard deviation of a Gaussian, in pixels of the model input.
        noise: largest standard deviation, as a share of the full range.
        jpeg_quality: lowest quality of a JPEG that an image is passed through; 0 for
            no JPEG.
        erase: share of the images in which rectangles at the borders are painted over,
            where side markers and tubes are.
        collimate: largest share of each side that is painted black, as a collimator
            leaves it.
        share: of the images that are varied at all; the others teach what an image
            looks like as it is.
    """

    rotation: float = 10.0
    shift: float = 0.08
    shear: float = 0.0
    zoom: float = 0.10
    aspect: float = 0.0
    crop: float = 0.0
    horizontal_flip: bool = True
    vertical_flip: bool = False
    brightness: float = 0.08
    contrast: float = 0.15
    gamma: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    jpeg_quality: int = 0
    erase: float = 0.0
    collimate: float = 0.0
    share: float = 1.0

    def __post_init__(self) -> None:
        for name in ("shift", "brightness", "contrast", "blur", "noise"):
            _within(self, name, 0, math.inf)
        for name in ("zoom", "aspect", "crop"):
            _within(self, name, 0, 0.9)
        _within(self, "rotation", 0, 180)
        _within(self, "shear", 0, 80)
        _within(self, "jpeg_quality", 0, 100)
        for name in ("erase", "share"):
            _within(self, name, 0, 1)
        _within(self, "collimate", 0, 0.4)
        known = self.gamma == 0 or 1 <= self.gamma < math.inf
        require(known, "augmentation.gamma", self.gamma, "0, or 1 and more")


@dataclass(frozen=True, kw_only=True)
class Head:
    """What follows the backbone.

    Attributes:
        pooling: `average` over places, or `flatten`.
        dense: units of each dense layer before the last one.
        batch_normalization: after each dense layer.
        dropout: share of the features dropped before each dense layer and the logits.
    """

    pooling: Literal["average", "flatten"] = "average"
    dense: tuple[int, ...] = ()
    batch_normalization: bool = False
    dropout: float = 0.2

    def __post_init__(self) -> None:
        require(0 <= self.dropout < 1, "head.dropout", self.dropout, "0 to below 1")
        require(all(n > 0 for n in self.dense), "head.dense", self.dense, "1 or more")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Some epochs with a part of the network.

    Attributes:
        unfrozen: the share of the backbone's layers that learn, from its end: 0 for the
            head alone, 1 for the whole network.
        epochs: at most so many.
        learning_rate: at its start.
    """

    unfrozen: float
    epochs: int
    learning_rate: float

    def __post_init__(self) -> None:
        require(0 <= self.unfrozen <= 1, "unfrozen", self.unfrozen, "0 to 1")
        require(self.epochs >= 0, "epochs", self.epochs, "0 or more")
        rate = self.learning_rate
        require(0 < rate < math.inf, "learning_rate", rate, "more than 0")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to train, from pixels to weights.

    Attributes:
        backbone: a row of `architectures.BACKBONES`.
        width: the backbone's width multiplier, where it has one.
        image_size: height and width of the model input.
        resize: `stretch` or `pad`; see `manifest.Preparation`.
        head: see `Head`.
        stages: one after the other; later ones unfreeze more.
        batch_size: images a step.
        optimizer: Keras's.
        weight_decay: decoupled, as in AdamW.
        schedule: of the learning rate within a stage: `plateau` halves it when the
            validation figure stands still, `cosine` lets it fall to nothing.
        monitor: the figure of the validation patients that decides what is best.
        early_stopping_patience: epochs of a stage without a better figure.
        reduce_lr_patience: epochs until the learning rate is halved.
        label_smoothing: share of a label that is spread over all classes.
        imbalance: `class_weights` in the loss, `balanced_sampling` of images, `none`.
        weight_average: momentum of the moving average of the weights, 0 for none; the
            averages are what is judged and kept.
        mixed_precision: float16 where there is a GPU.
        members: networks that are trained with different seeds and averaged.
        augmentation: see `Augmentation`.
        test_time_augmentation: average over the image and its mirror image.
        distillation: share of a teacher's answer in the label.
    """

    backbone: str
    width: float = 1.0
    image_size: int = 224
    resize: Literal["stretch", "pad"] = "stretch"
    head: Head = Head()
    stages: tuple[Stage, ...]
    batch_size: int = 32
    optimizer: Literal["adam", "sgd", "rmsprop"] = "adam"
    weight_decay: float = 0.0
    schedule: Literal["plateau", "cosine", "constant"] = "plateau"
    monitor: Literal["loss", "auc"] = "loss"
    early_stopping_patience: int = 10
    reduce_lr_patience: int = 5
    label_smoothing: float = 0.0
    imbalance: Literal["class_weights", "balanced_sampling", "none"] = "class_weights"
    weight_average: float = 0.0
    mixed_precision: bool = True
    members: int = 1
    augmentation: Augmentation = Augmentation()
    test_time_augmentation: bool = False
    distillation: float = 0.0

    def __post_init__(self) -> None:
        epochs = sum(stage.epochs for stage in self.stages)
        require(epochs > 0, "stages", self.stages, "one epoch or more")
        require(self.members >= 1, "members", self.members, "1 or more")
        require(1 <= self.image_size <= 4096, "image_size", self.image_size, "1–4096")
        for name in ("batch_size", "early_stopping_patience", "reduce_lr_patience"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        _within(self, "distillation", 0, 1)
        # At 1 the labels would say nothing, and the averages keep the first weights.
        for name in ("label_smoothing", "weight_average"):
            value = getattr(self, name)
            require(0 <= value < 1, name, value, "0 to below 1")
        _within(self, "weight_decay", 0, math.inf)
        # The image is continued by its mirror image, which is no larger.
        widest = (self.image_size - 1) / BLUR_CUT_OFF
        _within(self.augmentation, "blur", 0, widest)
        require(0 < self.width < math.inf, "width", self.width, "more than 0")


def _frozen_then(
    *later: Stage, epochs: int = 10, rate: float = 1e-4
) -> tuple[Stage, ...]:
    return (Stage(unfrozen=0, epochs=epochs, learning_rate=rate), *later)


_S1_AUGMENTATION = Augmentation(
    rotation=20, shift=0.2, shear=11, zoom=0.2, brightness=0, contrast=0
)
_S3_AUGMENTATION = Augmentation(
    rotation=10, shift=0.1, zoom=0.1, brightness=0.1, contrast=0
)
# Vertical flips, which S4 has too, are left off: no radiograph is exported so.
_S4_AUGMENTATION = Augmentation(
    rotation=15, shift=0, zoom=0.2, crop=0.1, brightness=0, contrast=0
)
_S3_HEAD = Head(dense=(256,), batch_normalization=True, dropout=0.4)
# Gradual unfreezing: the head, then the upper third, then the upper two thirds.
_S3_STAGES = _frozen_then(
    Stage(unfrozen=0.33, epochs=10, learning_rate=1e-4),
    Stage(unfrozen=0.67, epochs=10, learning_rate=1e-5),
    rate=1e-3,
)
_S4_STAGES = _frozen_then(Stage(unfrozen=0.4, epochs=20, learning_rate=1e-5), rate=1e-3)

_ROBUST = Augmentation(
    rotation=12,
    shift=0.08,
    shear=5,
    zoom=0.15,
    aspect=0.1,
    crop=0.1,
    brightness=0.12,
    contrast=0.4,
    gamma=1.7,
    blur=1.2,
    noise=0.03,
    jpeg_quality=40,
    erase=0.3,
    collimate=0.15,
    share=0.7,
)

_EFFICIENTNET = Recipe(
    backbone="efficientnet_b0",
    head=_S3_HEAD,
    stages=_S3_STAGES,
    weight_decay=1e-4,
    augmentation=_S3_AUGMENTATION,
)

RECIPES: dict[str, Recipe] = {
    "mobilenet": Recipe(
        backbone="mobilenet",
        stages=_frozen_then(
            Stage(unfrozen=1, epochs=5, learning_rate=1e-4), epochs=1, rate=1e-3
        ),
        early_stopping_patience=3,
        reduce_lr_patience=1,
    ),
    # The model in the box: it is to hold at other sites, see docs/models.md.
    "mobilenet_robust": Recipe(
        backbone="mobilenet",
        stages=_frozen_then(
            Stage(unfrozen=1, epochs=6, learning_rate=1e-4), epochs=1, rate=1e-3
        ),
        schedule="cosine",
        monitor="auc",
        label_smoothing=0.02,
        weight_average=0.98,
        augmentation=_ROBUST,
    ),
    "custom_cnn": Recipe(  # S1
        backbone="custom_cnn",
        image_size=128,
        head=Head(pooling="flatten", dense=(512, 256), dropout=0.5),
        stages=(Stage(unfrozen=1, epochs=30, learning_rate=1e-4),),
        augmentation=_S1_AUGMENTATION,
    ),
    "vgg16": Recipe(  # S1
        backbone="vgg16",
        head=Head(pooling="flatten", dense=(512,), dropout=0.5),
        stages=_frozen_then(epochs=30),
        augmentation=_S1_AUGMENTATION,
    ),
    "resnet50": Recipe(  # S4
        backbone="resnet50",
        stages=_S4_STAGES,
        augmentation=_S4_AUGMENTATION,
    ),
    "inception_v3": Recipe(  # S4, and Kermany 2018
        backbone="inception_v3",
        image_size=299,
        stages=_S4_STAGES,
        augmentation=_S4_AUGMENTATION,
    ),
    "efficientnet_b0": _EFFICIENTNET,  # S2, S3
    "efficientnet_b1": replace(
        _EFFICIENTNET, backbone="efficientnet_b1", image_size=240
    ),
    "efficientnet_b2": replace(
        _EFFICIENTNET, backbone="efficientnet_b2", image_size=260
    ),
    "efficientnet_b3": replace(
        _EFFICIENTNET, backbone="efficientnet_b3", image_size=300
    ),
    "densenet121": Recipe(  # CheXNet, Rajpurkar et al. 2017
        backbone="densenet121",
        stages=_frozen_then(
            Stage(unfrozen=1, epochs=20, learning_rate=1e-4), epochs=1, rate=1e-3
        ),
        batch_size=16,
        augmentation=Augmentation(
            rotation=0, shift=0, zoom=0, brightness=0, contrast=0
        ),
    ),
}


def load(named: str, changes: Sequence[str] = ()) -> Recipe:
    """The recipe of that name or in that TOML file, with fields changed.

    A file may begin with `base = "NAME"` and give what differs.

    Args:
        named: a name of `RECIPES`, or the path of a TOML file.
        changes: each `FIELD=VALUE`, as in `image_size=128`, `augmentation.rotation=5`
            or `stages.0.epochs=3`; the value as TOML has it, a bare word is text.

    Raises:
        Mismatch: no such recipe or field, or a value that does not fit it.
    """
    document = _document(named)
    for change in changes:
        field, found, text = change.partition("=")
        require(found, "--set", change, "FIELD=VALUE")
        _change(document, field.strip().split("."), value(text.strip()), field)
    recipe: Recipe = build(Recipe, document, f"recipe {named}")
    return recipe


def changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """`recipe` with other values, by field as in `augmentation.rotation`."""
    document = plain(recipe)
    for field, value in changes.items():
        _change(document, field.split("."), value, field)
    result: Recipe = build(Recipe, document, "recipe")
    return result


def plain(recipe: Recipe) -> dict[str, Any]:
    """The recipe as JSON and TOML have it."""
    document: dict[str, Any] = _lists(dataclasses.asdict(recipe))
    return document


def value_of(recipe: Recipe, field: str) -> Any:
    """What a field holds, such as `augmentation.rotation`, as JSON has it.

    Raises:
        Mismatch: there is no such field.
    """
    found: Any = plain(recipe)
    for name in field.split("."):
        found = found[_key(found, name, field)]
    return found


def toml(recipe: Recipe) -> str:
    """The recipe as TOML, each field with its whole name, as --set takes it."""
    return "".join(f"{line}\n" for line in _lines(plain(recipe)))


def value(text: str) -> Any:
    """A value as TOML has it; a bare word is text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _lines(document: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for name, held in document.items():
        if isinstance(held, dict):
            yield from _lines(held, f"{above}{name}.")
        elif isinstance(held, list) and held and isinstance(held[0], dict):
            tables = ", ".join(
                "{" + ", ".join(f"{k} = {json.dumps(v)}" for k, v in each.items()) + "}"
                for each in held
            )
            yield f"{above}{name} = [{tables}]"
        else:
            yield f"{above}{name} = {json.dumps(held)}"


def variations(augmentation: Augmentation) -> list[str]:
    """What is varied, by the names of the fields; empty for nothing."""
    told = []
    for name, value in vars(augmentation).items():
        if value and name != "share":
            words = name.replace("_", " ")
            told.append(words if value is True else f"{words} {value:g}")
    if told and augmentation.share < 1:
        told.append(f"in {augmentation.share:.0%} of the images")
    return told


def _document(named: str) -> dict[str, Any]:
    if named in RECIPES:
        return plain(RECIPES[named])
    path = Path(named)
    if not path.is_file():
        raise Mismatch(
            f"there is no recipe {named!r}, nor a file of that name; the recipes are "
            + ", ".join(RECIPES)
        )
    try:
        given = tomllib.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise Mismatch(f"{path} cannot be read as TOML: {error}") from error
    base = given.pop("base", None)
    if base is None:
        return given
    named_well = isinstance(base, str) and base in RECIPES
    require(named_well, f"{path}: base", base, "one of " + ", ".join(RECIPES))
    return _merged(plain(RECIPES[base]), given)


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    return {
        **below,
        **{
            key: _merged(below[key], value)
            if isinstance(value, dict) and isinstance(below.get(key), dict)
            else value
            for key, value in above.items()
        },
    }


def _change(document: Any, path: Sequence[str], value: Any, field: str) -> None:
    *parents, last = path
    for name in parents:
        document = document[_key(document, name, field)]
    document[_key(document, last, field)] = value


def _key(document: Any, name: str, field: str) -> Any:
    if isinstance(document, list):
        in_range = name.isdigit() and int(name) < len(document)
        require(in_range, field, name, f"a number below {len(document)}")
        return int(name)
    known = isinstance(document, dict) and name in document
    names = ", ".join(document) if isinstance(document, dict) else "no further field"
    require(known, f"the field {field} of a recipe", name, names)
    return name


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items()}
    return (
        [_lists(item) for item in value] if isinstance(value, tuple | list) else value
    )
