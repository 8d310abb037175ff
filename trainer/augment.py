"""Augmentation: the same variations for every recipe, from its numbers.

Every draw follows from a seed and the number of the batch alone, so that a run that was
interrupted sees the same images again as one that was not.
"""

from __future__ import annotations

import math

import tensorflow as tf

from trainer.recipes import BLUR_CUT_OFF, Augmentation

# Half the length and half the depth, as shares of a side, of what is painted over.
_ERASED_LENGTH = (0.03, 0.20)
_ERASED_DEPTH = (0.02, 0.10)
_ERASED = 2


def augmented(
    batches: tf.data.Dataset, augmentation: Augmentation, seed: int, epoch: int
) -> tf.data.Dataset:
    """(uint8 image, target) batches as (varied float32 image, target) ones."""

    def apply(
        number: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        image, target = batch
        drawn = tf.stack([tf.constant(seed * 10_007 + epoch, tf.int64), number])
        return varied(tf.cast(image, tf.float32), augmentation, drawn), target

    return batches.enumerate().map(apply).prefetch(2)


def varied(image: tf.Tensor, augmentation: Augmentation, seed: tf.Tensor) -> tf.Tensor:
    """Images, float32 (batch, height, width, 1), 0–255, each varied in its own way.

    What moves in from outside the picture is black, as air beside a patient is.
    """
    draw = _Draws(tf.shape(image)[0], seed)
    as_it_was = image
    image = _moved(image, augmentation, draw)
    image = _toned(image, augmentation, draw)
    if augmentation.blur:
        image = _blurred(image, augmentation.blur, draw)
    if augmentation.noise:
        deviation = 255 * augmentation.noise * draw.share()[:, None, None, None]
        image += deviation * draw.normal(tf.shape(image))
    if augmentation.erase:
        image = _erased(image, augmentation.erase, draw)
    if augmentation.collimate:
        image = _collimated(image, augmentation.collimate, draw)
    image = tf.clip_by_value(image, 0, 255)
    if augmentation.jpeg_quality:
        image = _compressed(image, augmentation.jpeg_quality, draw)
    chosen = draw.share() < augmentation.share
    return tf.where(chosen[:, None, None, None], image, as_it_was)


class _Draws:
    """Random numbers, one for each image, the next one at each call."""

    def __init__(self, images: tf.Tensor, seed: tf.Tensor) -> None:
        self._images = images
        self._seed = seed

    def share(self) -> tf.Tensor:
        """From 0 to 1, (batch,)."""
        self._seed = tf.random.experimental.stateless_fold_in(self._seed, 1)
        return tf.random.stateless_uniform((self._images,), self._seed)

    def deviation(self, largest: float) -> tf.Tensor:
        """From -largest to largest, (batch,)."""
        return largest * (2 * self.share() - 1)

    def normal(self, shape: tf.Tensor) -> tf.Tensor:
        """Normal numbers of any shape."""
        self._seed = tf.random.experimental.stateless_fold_in(self._seed, 1)
        return tf.random.stateless_normal(shape, self._seed)


def _moved(image: tf.Tensor, augmentation: Augmentation, draw: _Draws) -> tf.Tensor:
    """Turned, sheared, resized, shifted, cropped and mirrored, in one interpolation.

    A place of the result is taken from `inverse` × (place - middle) + `origin`.
    """
    height, width = image.shape[1] - 1.0, image.shape[2] - 1.0
    angle = draw.deviation(augmentation.rotation * math.pi / 180)
    shear = tf.tan(draw.deviation(augmentation.shear * math.pi / 180))
    kept = 1 - augmentation.crop * draw.share()
    size = kept / (1 + draw.deviation(augmentation.zoom))
    aspect = 1 + draw.deviation(augmentation.aspect)
    mirror = _sign(augmentation.horizontal_flip, draw)
    turn = _sign(augmentation.vertical_flip, draw)
    free = (1 - kept) / 2
    right = draw.deviation(1.0) * free + draw.deviation(augmentation.shift)
    down = draw.deviation(1.0) * free + draw.deviation(augmentation.shift)
    cos, sin = tf.cos(angle), tf.sin(angle)
    across, along = size * mirror * aspect, size * turn / aspect
    a, b = across * cos, along * (shear * cos - sin)
    c, d = across * sin, along * (shear * sin + cos)
    x = width / 2 + right * width - a * width / 2 - b * height / 2
    y = height / 2 + down * height - c * width / 2 - d * height / 2
    zero = tf.zeros_like(a)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image,
        transforms=tf.stack([a, b, x, c, d, y, zero, zero], axis=1),
        output_shape=list(image.shape[1:3]),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )


def _sign(flip: bool, draw: _Draws) -> tf.Tensor:
    return tf.where(draw.share() < 0.5 * flip, -1.0, 1.0)


def _toned(image: tf.Tensor, augmentation: Augmentation, draw: _Draws) -> tf.Tensor:
    """With another gamma, contrast and brightness."""

    def each(values: tf.Tensor) -> tf.Tensor:
        return values[:, None, None, None]

    if augmentation.gamma:
        exponent = tf.exp(draw.deviation(math.log(augmentation.gamma)))
        image = 255 * tf.pow(tf.clip_by_value(image / 255, 0, 1), each(exponent))
    mean = tf.reduce_mean(image, axis=(1, 2, 3), keepdims=True)
    contrast = each(draw.deviation(augmentation.contrast))
    brightness = each(255 * draw.deviation(augmentation.brightness))
    # As what is added, so that 0 and 0 leave each value as it is, to the bit.
    return tf.clip_by_value(image + ((image - mean) * contrast + brightness), 0, 255)


def _blurred(image: tf.Tensor, largest: float, draw: _Draws) -> tf.Tensor:
    """Through a Gaussian of up to `largest` pixels, another one for each image."""
    reach = max(1, math.ceil(BLUR_CUT_OFF * largest))
    places = tf.range(-reach, reach + 1, dtype=tf.float32)[:, None]
    deviation = tf.maximum(largest * draw.share(), 0.05)
    weights = tf.exp(-0.5 * (places / deviation) ** 2)
    weights /= tf.reduce_sum(weights, axis=0)
    # The batch as channels: each has a kernel of its own.
    side = tf.transpose(image, (3, 1, 2, 0))
    side = tf.pad(side, ((0, 0), (reach, reach), (reach, reach), (0, 0)), "REFLECT")
    for kernel in (weights[:, None, :, None], weights[None, :, :, None]):
        side = tf.nn.depthwise_conv2d(side, kernel, (1, 1, 1, 1), "VALID")
    return tf.ensure_shape(tf.transpose(side, (3, 1, 2, 0)), image.shape)


def _erased(image: tf.Tensor, share: float, draw: _Draws) -> tf.Tensor:
    """With rectangles at the borders painted over, in some of the images."""
    rows = tf.linspace(0.0, 1.0, image.shape[1])[None, :, None]
    columns = tf.linspace(0.0, 1.0, image.shape[2])[None, None, :]
    chosen = draw.share() < share
    for _ in range(_ERASED):
        position, far = draw.share(), tf.cast(draw.share() < 0.5, tf.float32)
        length = _between(_ERASED_LENGTH, draw)
        depth = _between(_ERASED_DEPTH, draw)
        upright = draw.share() < 0.5
        middle_row = tf.where(upright, position, far)
        middle_column = tf.where(upright, far, position)
        high, wide = tf.where(upright, length, depth), tf.where(upright, depth, length)
        within = (tf.abs(rows - middle_row[:, None, None]) < high[:, None, None]) & (
            tf.abs(columns - middle_column[:, None, None]) < wide[:, None, None]
        )
        within &= chosen[:, None, None]
        # Black, white, or a grey between.
        paint = 255 * tf.clip_by_value(1.5 * draw.share() - 0.25, 0, 1)
        image = tf.where(within[..., None], paint[:, None, None, None], image)
    return image


def _collimated(image: tf.Tensor, largest: float, draw: _Draws) -> tf.Tensor:
    """Half of the images with black edges, another width on each side."""
    rows = tf.linspace(0.0, 1.0, image.shape[1])[None, :, None]
    columns = tf.linspace(0.0, 1.0, image.shape[2])[None, None, :]
    chosen = tf.cast(draw.share() < 0.5, tf.float32)
    top, bottom, left, right = (
        (largest * chosen * draw.share())[:, None, None] for _ in range(4)
    )
    within = (rows >= top) & (rows <= 1 - bottom)
    within &= (columns >= left) & (columns <= 1 - right)
    return image * tf.cast(within, image.dtype)[..., None]


def _between(limits: tuple[float, float], draw: _Draws) -> tf.Tensor:
    low, high = limits
    return low + (high - low) * draw.share()


def _compressed(image: tf.Tensor, lowest: int, draw: _Draws) -> tf.Tensor:
    """Half of the images through a JPEG of some quality, from `lowest` to 100."""
    share = draw.share()
    quality = tf.cast(lowest + (100 - lowest) * 2 * share, tf.int32)

    def through(pair: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        pixels, chosen = pair
        return tf.cond(
            chosen > 100,
            lambda: pixels,
            lambda: tf.io.decode_jpeg(
                tf.raw_ops.EncodeJpegVariableQuality(images=pixels, quality=chosen),
                channels=1,
            ),
        )

    pixels = tf.cast(tf.round(image), tf.uint8)
    coded = tf.map_fn(through, (pixels, quality), fn_output_signature=tf.uint8)
    return tf.cast(tf.ensure_shape(coded, image.shape), tf.float32)
