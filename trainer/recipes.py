"""Named recipes: everything that decides how a model is trained, one row each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How training images are varied; 0 turns a variation off.

    Attributes:
        rotation: largest angle, in degrees.
        shift: largest shift, as a share of height and width.
        zoom: largest change of size, as a share.
        brightness: largest change, as a share of the full range.
        contrast: largest change, as a share.
        horizontal_flip: mirrors half of the images. It also mirrors the heart and the
            side marker, which a model of pneumonia does not need.
    """

    rotation: float = 10.0
    shift: float = 0.08
    zoom: float = 0.10
    brightness: float = 0.08
    contrast: float = 0.15
    horizontal_flip: bool = True


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to train, from pixels to weights.

    Attributes:
        backbone: a row of `architectures.BACKBONES`.
        width: the backbone's width multiplier.
        image_size: height and width of the model input.
        resize: `stretch` or `pad`; see `manifest.Preparation`.
        batch_size: images a step.
        dropout: share of the features dropped before the last layer.
        head_epochs: epochs of the head alone, on a frozen backbone.
        head_learning_rate: Adam's, while the backbone is frozen.
        fine_tune_epochs: at most so many epochs of the whole network.
        fine_tune_learning_rate: Adam's, at the start of fine-tuning.
        early_stopping_patience: epochs without a better validation loss.
        reduce_lr_patience: epochs until the learning rate is halved.
        augmentation: see `Augmentation`.
    """

    backbone: str
    width: float = 1.0
    image_size: int = 224
    resize: Literal["stretch", "pad"] = "stretch"
    batch_size: int = 32
    dropout: float = 0.2
    head_epochs: int = 1
    head_learning_rate: float = 1e-3
    fine_tune_epochs: int = 5
    fine_tune_learning_rate: float = 1e-4
    early_stopping_patience: int = 3
    reduce_lr_patience: int = 1
    augmentation: Augmentation = Augmentation()


RECIPES: dict[str, Recipe] = {"mobilenet": Recipe(backbone="mobilenet")}
