"""Temperature scaling: probabilities that mean what they say (Guo et al. 2017)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_expit, log_softmax

from trainer.dataset import Task

_RANGE = (-3.0, 3.0)


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
    exact = logits.astype(np.float64)
    on = (
        labels
        if labels.ndim == 2
        else labels[:, np.newaxis] == np.arange(exact.shape[1])
    )

    def log_loss(log_temperature: float) -> float:
        scaled = exact / np.exp(log_temperature)
        if task == "multilabel":
            return -float(log_expit(np.where(on, scaled, -scaled)).mean())
        return -float(log_softmax(scaled, axis=1)[on].mean())

    found = minimize_scalar(log_loss, bounds=_RANGE, method="bounded")
    return float(np.exp(found.x))
