"""Small radiographs, made in code: pixels, DICOM files in any encoding, a model."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate

from beam_pipeline import decide, images
from beam_pipeline import manifest as manifests
from beam_pipeline.calibration import SiteCalibration
from beam_pipeline.doctor import ENCODERS
from beam_pipeline.errors import NotScored, Rejected
from beam_pipeline.images import Header, Picture, codecs, eligibility
from beam_pipeline.images.rules import compiled
from beam_pipeline.manifest import (
    Blessing,
    Calibration,
    Eligibility,
    Estimate,
    Explanation,
    Manifest,
    OperatingPoint,
    Outlier,
    Part,
    Preparation,
    Rendering,
    Spread,
    TrainingData,
)
from beam_pipeline.read import Reading
from beam_pipeline.records import Outcome, Ready, Source
from beam_pipeline.runs import Run

CR = uid.ComputedRadiographyImageStorage
DX = uid.DigitalXRayImageStorageForPresentation

SIZE = 32
PREPARATION = Preparation(height=SIZE, width=SIZE)
ELIGIBILITY = Eligibility(
    sop_classes=(CR, DX),
    modalities=("CR", "DX"),
    body_parts=("CHEST", "THORAX"),
    views=("AP", "PA"),
    patient_age_years=(1, 5),
)
OUTLIER = Outlier(
    method="distance from the middle grey",
    features="mean brightness",
    quantiles={"0.5": 0.1, "0.99": 0.4},
    flag_above="0.99",
    chosen_on="validation",
)
SPREAD = Spread(method="augmentation", of=4)
EXPLANATION = Explanation(method="the image itself", layer="", height=4, width=8)
BLESSING = Blessing(
    blessed=True,
    required={"auc": 0.8},
    reasons=("auc 0.900 of 0.8: held",),
    compared_with=None,
)
_ESTIMATE = Estimate(value=0.9, low=0.8, high=1.0, n=20, method="Wilson")

# Transfer syntaxes that do not give the same values back.
LOSSY = {
    uid.JPEGBaseline8Bit,
    uid.JPEGExtended12Bit,
    uid.JPEGLSNearLossless,
    uid.JPEG2000,
    uid.HTJ2K,
}


def gradient(rows: int = 80, columns: int = 70, bits: int = 12) -> NDArray[np.uint16]:
    """Stored values that rise from the top left and use all of `bits` bits."""
    ramp = np.add.outer(np.arange(rows), 2 * np.arange(columns)).astype(np.float64)
    return np.rint(ramp / ramp.max() * (2**bits - 1)).astype(np.uint16)


def chest(brightness: float, rows: int = 80, columns: int = 70) -> NDArray[np.uint8]:
    """An 8-bit picture of a given mean, 0 to 1, with something to see on it."""
    ramp = np.linspace(-40, 40, columns)
    picture = np.clip(brightness * 255 + ramp, 0, 255)
    return np.broadcast_to(np.rint(picture), (rows, columns)).astype(np.uint8)


def dicom(
    pixels: NDArray[Any],
    *,
    transfer_syntax: str = uid.ExplicitVRLittleEndian,
    bits_stored: int | None = None,
    **attributes: Any,
) -> FileDataset:
    """A chest radiograph around stored values; an attribute of None is left out."""
    bits_allocated = 8 * pixels.itemsize
    bits_stored = bits_stored or (12 if bits_allocated == 16 else 8)
    defaults = {
        "SOPClassUID": CR,
        "SOPInstanceUID": uid.generate_uid(),
        "StudyInstanceUID": uid.generate_uid(),
        "SeriesInstanceUID": uid.generate_uid(),
        "PatientName": "Canary^Patient",
        "PatientID": "canary-4711",
        "Modality": "CR",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "PatientAge": "004Y",
        "PhotometricInterpretation": "MONOCHROME2",
        "SamplesPerPixel": 1 if pixels.ndim == 2 else 3,
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": bits_allocated,
        "BitsStored": bits_stored,
        "HighBit": bits_stored - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "WindowCenter": 2.0 ** (bits_stored - 1),
        "WindowWidth": 2.0**bits_stored,
    }
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = uid.UID(transfer_syntax)
    meta.MediaStorageSOPClassUID = attributes.get("SOPClassUID") or CR
    meta.MediaStorageSOPInstanceUID = defaults["SOPInstanceUID"]
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    for keyword, value in {**defaults, **attributes}.items():
        if value is not None:
            setattr(dataset, keyword, value)
    _set_pixels(dataset, pixels)
    return dataset


def _set_pixels(dataset: FileDataset, pixels: NDArray[Any]) -> None:
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax in codecs.NATIVE:
        order = ">" if syntax == uid.ExplicitVRBigEndian else "<"
        data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
        if order == ">" and pixels.itemsize == 1:
            # In words (VR OW) two 8-bit pixels change places: PS3.5 8.1.2.
            data = np.frombuffer(data + b"\0" * (len(data) % 2), ">u2")
            data = data.astype("<u2").tobytes()
        dataset.PixelData = data + b"\0" * (len(data) % 2)
    else:
        dataset.PixelData = encapsulate([bytes(ENCODERS[syntax](pixels))])
    dataset["PixelData"].VR = "OB" if syntax not in codecs.NATIVE else "OW"


def to_bytes(dataset: FileDataset) -> bytes:
    """The file that `dataset` is written as."""
    stream = io.BytesIO()
    syntax = dataset.file_meta.TransferSyntaxUID
    dataset.set_original_encoding(syntax.is_implicit_VR, syntax.is_little_endian)
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def header_of(source: FileDataset | bytes, uri: str = "") -> Header:
    """The header of a file, with what the default rules ask for."""
    data = source if isinstance(source, bytes) else to_bytes(source)
    return images.read_header(io.BytesIO(data), uri, compiled(manifest()).asked)


def picture_of(source: FileDataset | bytes, voi: Any = "auto") -> Picture:
    """The picture in a file, whatever the rules say of it."""
    data = source if isinstance(source, bytes) else to_bytes(source)
    return images.decode(data, header_of(data), Rendering(voi=voi))


def rendered(
    values: list[int], dtype: Any = np.uint16, **attributes: Any
) -> tuple[list[int], Picture]:
    """The greys that a row of stored values becomes, and the picture of it."""
    picture = picture_of(dicom(np.array([values], dtype), **attributes))
    return picture.pixels[0].tolist(), picture


def shades(values: list[int], dtype: Any = np.uint16, **attributes: Any) -> list[int]:
    """The greys that a row of stored values becomes."""
    return rendered(values, dtype, **attributes)[0]


def flags_of(source: FileDataset | bytes) -> tuple[str, ...]:
    """The flags of a file's header, and those of the default rules."""
    found = header_of(source)
    verdicts = eligibility.check(found, compiled(manifest()))
    return found.flags + eligibility.require(verdicts)


def reason_of(source: FileDataset | bytes) -> str:
    """Why the pixels of a file are refused or cannot be read."""
    try:
        picture_of(source)
    except NotScored as error:
        return str(error.reason)
    raise AssertionError("it gives a picture")


def refusal_of(source: FileDataset | bytes) -> str:
    """Why the rules refuse a file."""
    try:
        flags_of(source)
    except Rejected as error:
        return str(error.reason)
    raise AssertionError("the rules accept it")


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """`image` as a raster file."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def reading_of(source: FileDataset | bytes, path: Path) -> Ready | Outcome:
    """What reading the file at `path` ends with, once `source` is written there."""
    path.write_bytes(source if isinstance(source, bytes) else to_bytes(source))
    reading = Reading(preparation=PREPARATION, rules=compiled(manifest()))
    return list(reading(Source(str(path))))[-1]


def lut(first: int, entries: list[int], bits: int = 16) -> Dataset:
    """An item of a Modality or VOI LUT Sequence."""
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item.add_new("LUTData", "US", entries)
    return item


def manifest(**changes: Any) -> Manifest:
    """The manifest of the brightness model."""
    point = OperatingPoint(
        thresholds=(0.5,),
        method="balanced recalls",
        chosen_on="validation",
        sensitivity=_ESTIMATE,
        specificity=_ESTIMATE,
    )
    screening = OperatingPoint(**{**vars(point), "thresholds": (0.2,)})
    defaults: dict[str, Any] = {
        "name": "brightness",
        "version": "1",
        "task": "binary",
        "classes": ("DARK", "BRIGHT"),
        "findings": ("BRIGHT",),
        "preparation": PREPARATION,
        "operating_points": {"default": point, "screening": screening},
        "calibration": Calibration(
            method="temperature", temperature=1.0, chosen_on="validation"
        ),
        "eligibility": ELIGIBILITY,
        "training_data": TrainingData(
            source="none",
            images=2,
            duplicates_left_out=0,
            patient_pattern="",
            files_without_patient=0,
            split={"training": Part(patients=1, images=1, images_by_class={})},
            seed=1,
        ),
        "recipe": {},
        "metrics": {"auc": _ESTIMATE},
        "intended_use": "tests",
        "limits": "everything else",
        "licence": "MIT",
        "packages": {},
        "files": {},
        "blessing": BLESSING,
    }
    return Manifest(**{**defaults, **changes})


def run(output: Path, run_id: str = "night", **about: Any) -> Run:
    """A run of the brightness model."""
    basis = decide.policy(manifest(), "sha256:0", run_id).basis
    return Run(str(output), run_id, "2026-01-01T00:00:00+00:00", basis, "in", about)


def site_calibration(**changes: Any) -> SiteCalibration:
    """A calibration of the brightness model, at a temperature of 2."""
    point = manifest().operating_points["default"]
    defaults: dict[str, Any] = {
        "model_name": "brightness",
        "model_version": "1",
        "model_digest": "sha256:0",
        "temperature": 2.0,
        "operating_points": {
            "default": OperatingPoint(**{**vars(point), "thresholds": (0.6,)})
        },
        "site": "Ward 3",
        "images": 60,
        "patients": 50,
        "created": "2026-11-20T08:00:00+00:00",
    }
    return SiteCalibration(**{**defaults, **changes})


class Brightness(tf.Module):
    """A model whose score follows from the mean of its input alone.

    The logit of BRIGHT is 8 × (mean / 255 − 0.5).
    """

    @tf.function(
        input_signature=[tf.TensorSpec((None, SIZE, SIZE, 1), tf.uint8, name="image")]
    )
    def serve(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        mean = tf.reduce_mean(tf.cast(image, tf.float32), axis=[1, 2, 3]) / 255
        logits = tf.stack([tf.zeros_like(mean), 8 * (mean - 0.5)], axis=1)
        return {
            "probabilities": tf.nn.softmax(logits),
            "logits": logits,
            "embedding": mean[:, tf.newaxis],
        }


class OutlierBrightness(Brightness):
    """The same, with the distance of the mean from 0.5 as its outlier score."""

    @tf.function(
        input_signature=[tf.TensorSpec((None, SIZE, SIZE, 1), tf.uint8, name="image")]
    )
    def serve(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        mean = tf.reduce_mean(tf.cast(image, tf.float32), axis=[1, 2, 3]) / 255
        score = {"outlier_score": tf.abs(mean - 0.5)}
        return {**super().serve(image), **score}


class MultilabelBrightness(tf.Module):
    """Two classes that do not exclude each other: BRIGHT as above, and DARK, its rest.

    The logit of DARK is 4 × (0.5 − mean / 255).
    """

    @tf.function(
        input_signature=[tf.TensorSpec((None, SIZE, SIZE, 1), tf.uint8, name="image")]
    )
    def serve(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        mean = tf.reduce_mean(tf.cast(image, tf.float32), axis=[1, 2, 3]) / 255
        logits = tf.stack([4 * (0.5 - mean), 8 * (mean - 0.5)], axis=1)
        return {
            "probabilities": tf.nn.sigmoid(logits),
            "logits": logits,
            "embedding": mean[:, tf.newaxis],
        }


class SpreadBrightness(Brightness):
    """The same, with a tenth of the mean as its spread."""

    @tf.function(
        input_signature=[tf.TensorSpec((None, SIZE, SIZE, 1), tf.uint8, name="image")]
    )
    def serve(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        mean = tf.reduce_mean(tf.cast(image, tf.float32), axis=[1, 2, 3]) / 255
        return {**super().serve(image), "spread": mean / 10}


class ExplainedBrightness(Brightness):
    """The same, with a heatmap: the image in small, turned over for DARK."""

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, SIZE, SIZE, 1), tf.uint8, name="image"),
            tf.TensorSpec((None,), tf.int32, name="class_index"),
        ]
    )
    def explain(self, image: tf.Tensor, class_index: tf.Tensor) -> dict[str, tf.Tensor]:
        size = (EXPLANATION.height, EXPLANATION.width)
        small = tf.image.resize(image, size, "area")[..., 0] / 255
        is_bright = tf.cast(class_index, tf.float32)[:, tf.newaxis, tf.newaxis]
        return {"heatmap": is_bright * small + (1 - is_bright) * (1 - small)}


def brightness_score(mean: float) -> float:
    """The score that the brightness model gives a mean from 0 to 255."""
    return float(1 / (1 + np.exp(-8 * (mean / 255 - 0.5))))


def save_backbone(path: Path, size: int = SIZE, width: float = 0.25) -> Path:
    """Write weights of a MobileNet without top whose features tell images apart.

    Random weights alone do not: their signal dies on the way. Here each
    BatchNormalization has seen some images, as it has in weights from a large data set.
    """
    keras.utils.set_random_seed(0)
    network = keras.applications.MobileNet(
        alpha=width, include_top=False, weights=None, input_shape=(size, size, 3)
    )
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    random = np.random.default_rng(0)
    scenes = (
        random.uniform(-1, 1, (64, 4, 4, 3)).repeat(size // 4, 1).repeat(size // 4, 2)
    )
    network(scenes, training=True)
    network.save_weights(path)
    return path


def save_model(
    model_dir: Path, module: tf.Module | None = None, **changes: Any
) -> Path:
    """Write a model of the contract to `model_dir`."""
    module = module or Brightness()
    signatures = {"serving_default": module.serve}
    if hasattr(module, "explain"):
        signatures["explain"] = module.explain
    tf.saved_model.save(module, str(model_dir), signatures)
    files = manifests.file_digests(model_dir)
    manifests.save(manifest(files=files, **changes), model_dir)
    return model_dir
