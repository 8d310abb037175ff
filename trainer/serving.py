"""What is served: the signatures of the model contract, around one network or several.

A `Scorer` answers for uint8 images. Scorers hold scorers: an average of networks, or of
an image and its mirror image, is one too, and is exported as one SavedModel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from beam_pipeline.manifest import Explanation, Manifest, Spread
from trainer.data.dataset import Task

OutlierScore = Callable[[tf.Tensor], tf.Tensor]


@dataclass(frozen=True)
class Shape:
    """What a scorer takes and gives.

    Attributes:
        size: height and width of an image.
        classes: how many logits.
        findings: the positions of the findings among them.
        task: decides between softmax and sigmoid.
    """

    size: tuple[int, int]
    classes: int
    findings: tuple[int, ...]
    task: Task

    def probabilities(self, logits: tf.Tensor) -> tf.Tensor:
        """Of logits, (images, classes)."""
        of = tf.nn.sigmoid if self.task == "multilabel" else tf.nn.softmax
        return of(logits)

    def logits(self, probabilities: tf.Tensor) -> tf.Tensor:
        """That these probabilities follow from at a temperature of 1."""
        kept = tf.clip_by_value(probabilities, 1e-7, 1 - 1e-7)
        if self.task == "multilabel":
            return tf.math.log(kept) - tf.math.log1p(-kept)
        return tf.math.log(kept)

    def log_odds(self, logits: tf.Tensor, class_index: tf.Tensor) -> tf.Tensor:
        """Of one class against all others, for each image: (images,).

        With softmax a logit alone says nothing: what it is more than the others does.
        """
        chosen = tf.gather(logits, class_index, axis=1, batch_dims=1)
        if self.task == "multilabel":
            return chosen
        is_chosen = tf.one_hot(
            class_index, self.classes, on_value=True, off_value=False
        )
        others = tf.where(is_chosen, logits.dtype.min, logits)
        return chosen - tf.reduce_logsumexp(others, axis=1)

    def score(self, probabilities: tf.Tensor) -> tf.Tensor:
        """The probability of a finding, (images,)."""
        of_findings = tf.gather(probabilities, self.findings, axis=1)
        total = tf.reduce_max if self.task == "multilabel" else tf.reduce_sum
        return total(of_findings, axis=1)


class Scorer(tf.Module):
    """Answers for images.

    Attributes:
        shape: what it takes and gives.
        explanation: how its heatmap is made, or None where it has none.
        outlier_features: what its outlier score is made from, or None likewise.
        spread: whose answers its `spread` compares, or None likewise.
    """

    shape: Shape
    explanation: Explanation | None = None
    outlier_features: str | None = None
    spread: Spread | None = None

    def __call__(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """`logits`, `embedding`, and where there is one `outlier_score`, `spread`.

        Args:
            image: uint8, (images, height, width, 1).
        """
        raise NotImplementedError

    def heatmap(self, image: tf.Tensor, class_index: tf.Tensor) -> tf.Tensor:
        """Where a class's log-odds come from: float32 (images, h, w), 0 to 1."""
        raise NotImplementedError


class Network(Scorer):
    """One network that `architectures.build` made.

    Args:
        network: gives logits, embedding and layout.
        temperature: that its logits are divided by before anything else.
        outlier_score: of the layout, in the graph; None for none.
    """

    def __init__(
        self,
        network: keras.Model,
        shape: Shape,
        outlier_score: OutlierScore | None = None,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.shape = shape
        self.temperature = temperature
        self._outlier_score = outlier_score
        if outlier_score is not None:
            self.outlier_features = (
                f"{network.name}: its middle, once it was trained; training images, "
                "as they are and augmented"
            )
        height, width = shape.size
        body = network.get_layer("body")
        # TensorFlow saves whatever object it finds in here. A Keras model is made of
        # thousands, of which the weights alone are served: it is kept out of sight.
        self._keras: Callable[[], keras.Model] = lambda: network
        self._weights = [variable.value for variable in network.weights]
        # One graph, also where several signatures are made of it: a backbone takes
        # seconds to trace, to save and to load.
        self._see = tf.function(
            partial(body, training=False),
            input_signature=[tf.TensorSpec((None, height, width, 1), tf.float32)],
        )
        self.explanation = Explanation(
            method="Grad-CAM",
            layer=f"the last features of {network.name}, {body.output[0].shape[1]} × "
            f"{body.output[0].shape[2]} places",
            height=height,
            width=width,
        )

    @property
    def network(self) -> keras.Model:
        """Gives logits, embedding and layout."""
        return self._keras()

    def __call__(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        features, layout = self._see(tf.cast(image, tf.float32))
        logits, embedding = self.network.get_layer("head")(features, training=False)
        answer = {"logits": logits / self.temperature, "embedding": embedding}
        if self._outlier_score is not None:
            answer["outlier_score"] = self._outlier_score(layout)
        return answer

    def heatmap(self, image: tf.Tensor, class_index: tf.Tensor) -> tf.Tensor:
        """See `grad_cam`."""
        features, _ = self._see(tf.cast(image, tf.float32))
        with tf.GradientTape() as tape:
            tape.watch(features)
            logits, _ = self.network.get_layer("head")(features, training=False)
            odds = self.shape.log_odds(logits, class_index)
        return grad_cam(features, tape.gradient(odds, features), self.shape.size)


def grad_cam(
    features: tf.Tensor, gradients: tf.Tensor, size: tuple[int, int]
) -> tf.Tensor:
    """Grad-CAM (Selvaraju et al. 2017), as a share of its largest value.

    All zeros where nothing speaks for the class.

    Args:
        features: of the last layer that knows places, (images, rows, columns,
            channels).
        gradients: of what is explained by them, the same shape.
        size: height and width of the map.
    """
    weights = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
    map_ = tf.nn.relu(tf.reduce_sum(weights * features, axis=-1, keepdims=True))
    resized = tf.image.resize(map_, size)[..., 0]
    return share_of_largest(resized)


def share_of_largest(heatmap: tf.Tensor) -> tf.Tensor:
    """Each map, (images, height, width), over its largest value; zeros stay zeros."""
    largest = tf.reduce_max(heatmap, axis=(1, 2), keepdims=True)
    return tf.math.divide_no_nan(heatmap, largest)


class Exported(Scorer):
    """A SavedModel of the contract, as a member of another one.

    Args:
        model_dir: its directory.
        manifest: what it says of itself. Its logits are from before calibration, and
            its classes and preparation are those of the other members.
    """

    def __init__(self, model_dir: Path, manifest: Manifest) -> None:
        super().__init__()
        self.loaded = tf.saved_model.load(str(model_dir))
        preparation = manifest.preparation
        self.shape = Shape(
            size=(preparation.height, preparation.width),
            classes=len(manifest.classes),
            findings=manifest.finding_indices,
            task=manifest.task,
        )
        self.temperature = manifest.calibration.temperature
        self.explanation = manifest.explanation
        self.spread = manifest.spread
        if manifest.outlier is not None:
            self.outlier_features = manifest.outlier.features

    def __call__(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        given = self.loaded.signatures["serving_default"](image=image)
        answer = {
            "logits": given["logits"] / self.temperature,
            "embedding": given["embedding"],
        }
        # An output that the manifest does not promise is not the contract's.
        if self.outlier_features is not None:
            answer["outlier_score"] = given["outlier_score"]
        if self.spread is not None:
            answer["spread"] = given["spread"]
        return answer

    def heatmap(self, image: tf.Tensor, class_index: tf.Tensor) -> tf.Tensor:
        explain = self.loaded.signatures["explain"]
        return explain(image=image, class_index=class_index)["heatmap"]


class Ensemble(Scorer):
    """The mean of several scorers' probabilities; `spread` says how far they disagree.

    Its outlier score is the mean of theirs, where each has one.
    """

    def __init__(self, members: Sequence[Scorer]) -> None:
        super().__init__()
        self.members = list(members)
        self.shape = members[0].shape
        explanations = [member.explanation for member in members]
        if all(explanations):
            self.explanation = _mean_of(explanations[0], len(members))
        features = [member.outlier_features for member in members]
        if None not in features:
            named = "; ".join(dict.fromkeys(map(str, features)))
            self.outlier_features = f"mean of {len(members)} members: {named}"
        self.spread = Spread(method="ensemble", of=len(members))

    def __call__(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        return _average(self.shape, [member(image) for member in self.members])

    def heatmap(self, image: tf.Tensor, class_index: tf.Tensor) -> tf.Tensor:
        maps = [member.heatmap(image, class_index) for member in self.members]
        return share_of_largest(tf.reduce_mean(tf.stack(maps), axis=0))


class Mirrored(Scorer):
    """The mean over an image and its mirror image, of one scorer."""

    def __init__(self, scorer: Scorer) -> None:
        super().__init__()
        self.scorer = scorer
        self.shape = scorer.shape
        self.explanation = scorer.explanation
        self.outlier_features = scorer.outlier_features
        self.spread = Spread(method="augmentation", of=2)

    def __call__(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        seen = [self.scorer(image), self.scorer(tf.reverse(image, axis=[2]))]
        answer = _average(self.shape, seen)
        # Whether an image is unlike the training data is asked of the image alone.
        if "outlier_score" in seen[0]:
            answer["outlier_score"] = seen[0]["outlier_score"]
        return answer

    def heatmap(self, image: tf.Tensor, class_index: tf.Tensor) -> tf.Tensor:
        mirrored = self.scorer.heatmap(tf.reverse(image, axis=[2]), class_index)
        as_it_is = self.scorer.heatmap(image, class_index)
        return share_of_largest(as_it_is + tf.reverse(mirrored, axis=[2]))


def _average(
    shape: Shape, answers: Sequence[dict[str, tf.Tensor]]
) -> dict[str, tf.Tensor]:
    each = [shape.probabilities(answer["logits"]) for answer in answers]
    scores = tf.stack([shape.score(probabilities) for probabilities in each])
    average = {
        "logits": shape.logits(tf.reduce_mean(tf.stack(each), axis=0)),
        "embedding": tf.concat([answer["embedding"] for answer in answers], axis=1),
        "spread": tf.math.reduce_std(scores, axis=0),
    }
    if all("outlier_score" in answer for answer in answers):
        every = tf.stack([answer["outlier_score"] for answer in answers])
        average["outlier_score"] = tf.reduce_mean(every, axis=0)
    return average


def _mean_of(explanation: Any, members: int) -> Explanation:
    return Explanation(
        method=f"{explanation.method}, mean of {members} members",
        layer=explanation.layer,
        height=explanation.height,
        width=explanation.width,
    )
