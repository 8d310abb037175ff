"""Temperature scaling: probabilities that mean what they say (Guo et al. 2017)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_expit, log_softmax

from trainer.data.dataset import Task

_RANGE = (-3.0, 3.0)
_LEAST_PULL = 1e-4


def temperature(
    logits: NDArray[np.floating],
    labels: NDArray[np.int64] | NDArray[np.bool_],
    task: Task = "multiclass",
) -> float:
    """The temperature, e**-3 to e**3, with the lowest mean log loss.

    One temperature for all classes, also of a multi-label model, whose log loss is the
    mean over the classes: it leaves the order of the images as it is in each.

    Args:
        logits: (images, classes).
        labels: positions of the classes, (images,); or bool, (images, classes).
        task: `multilabel` takes each logit by itself, the others take all together.
    """
    exact, on = logits.astype(np.float64), _matrix(labels, logits.shape[1])

    def loss(log_temperature: float) -> float:
        return _log_loss(exact / np.exp(log_temperature), on, task)

    found = minimize_scalar(loss, bounds=_RANGE, method="bounded")
    return float(np.exp(found.x))


def offsets(
    logits: NDArray[np.floating],
    labels: NDArray[np.int64] | NDArray[np.bool_],
    task: Task = "multiclass",
) -> NDArray[np.float64]:
    """What to add to the logits, (classes,), so that a temperature calibrates them.

    A loss that weighs classes, and images that were varied for training alone, move
    logits to one side, and no temperature moves them back. Offsets and temperature are
    found together, and the offsets given (bias-corrected temperature scaling:
    Alexandari, Kundaje, Shrikumar 2020). Their mean is 0, but for multi-label.
    """
    exact, on = logits.astype(np.float64), _matrix(labels, logits.shape[1])
    classes = exact.shape[1]

    def moved(values: NDArray[np.float64]) -> NDArray[np.float64]:
        hot = np.exp(np.clip(values[-1], *_RANGE))
        return np.asarray(exact / hot + values[:-1])

    def loss(values: NDArray[np.float64]) -> float:
        # A class without an error among few images would drift to infinity.
        drift = _LEAST_PULL * float(np.square(values).mean())
        return _log_loss(moved(values), on, task) + drift

    found = minimize(loss, np.zeros(classes + 1), method="L-BFGS-B").x
    shift = found[:-1] * np.exp(np.clip(found[-1], *_RANGE))
    return np.asarray(shift if task == "multilabel" else shift - shift.mean())


def _matrix(
    labels: NDArray[np.int64] | NDArray[np.bool_], classes: int
) -> NDArray[np.bool_]:
    if labels.ndim == 2:
        return labels.astype(np.bool_)
    return np.asarray(labels[:, np.newaxis] == np.arange(classes))


def _log_loss(logits: NDArray[np.float64], on: NDArray[np.bool_], task: Task) -> float:
    if task == "multilabel":
        return -float(log_expit(np.where(on, logits, -logits)).mean())
    return -float(log_softmax(logits, axis=1)[on].mean())
