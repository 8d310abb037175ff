"""Do heatmaps depend on what the model has learned? Randomise its weights and see.

Adebayo et al.: Sanity Checks for Saliency Maps, NeurIPS 2018. A map that stays the same
while the weights are destroyed, from the head downwards, shows the edges of an image
and not what the model made of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

Maps = NDArray[np.float32]

# Maps that go on looking like the original have a correlation near 1. Of maps with a
# few places only, chance alone makes some hundredths to tenths.
HIGHEST = 0.5
_STEPS = 8
# One random network may see a film, or its negative, as the trained one does.
_DRAWS = 9
_EMPTY = "every heatmap of these images is flat: there is nothing to compare"


@dataclass(frozen=True)
class Step:
    """How far maps are like the original ones once some weights are random.

    Attributes:
        layer: the last one that was randomised; "" for none.
        share: of the variables that are random.
        correlation: Spearman's, over the places of a map, mean over images and draws.
        maps: of the first draw, (images, height, width).
    """

    layer: str
    share: float
    correlation: float
    maps: Maps


@dataclass(frozen=True)
class Sanity:
    """The cascade: the original maps first, all weights random last."""

    steps: tuple[Step, ...]

    @property
    def passed(self) -> bool:
        """Whether maps of a random network are unlike those of the trained one.

        A map that is turned into its negative has changed too.
        """
        return self.steps[-1].correlation <= HIGHEST


def check(explain: Callable[[], Maps], variables: Sequence[Any], seed: int) -> Sanity:
    """Randomise `variables` from the last to the first, and compare the maps.

    The values of a variable are shuffled: none is new, and what they said is gone. In
    the end all of them are as they were.

    Args:
        explain: the maps of some images, as the variables are now.
        variables: TensorFlow's, in the order in which the network uses them.
        seed: of the shuffling.

    Raises:
        ValueError: all maps are flat, or there are no variables.
    """
    original = explain()
    if not np.ptp(original, axis=(1, 2)).any():
        raise ValueError(_EMPTY)
    if not variables:
        raise ValueError("the heatmap depends on no variables: nothing can be random")
    draws = []
    for draw in range(_DRAWS):
        with _restored(variables):
            random = np.random.default_rng([seed, draw])
            draws.append(list(_cascade(explain, variables, original, random)))
    steps = [
        replace(each[0], correlation=float(np.mean([s.correlation for s in each])))
        for each in zip(*draws, strict=True)
    ]
    return Sanity((Step("", 0.0, 1.0, original), *steps))


@contextmanager
def _restored(variables: Sequence[Any]) -> Iterator[None]:
    kept = [variable.numpy() for variable in variables]
    try:
        yield
    finally:
        for variable, values in zip(variables, kept, strict=True):
            variable.assign(values)


def _cascade(
    explain: Callable[[], Maps],
    variables: Sequence[Any],
    original: Maps,
    random: np.random.Generator,
) -> Iterator[Step]:
    telling = np.ptp(original, axis=(1, 2)) > 0
    layers = _layers(variables)
    stops = set(np.linspace(1, len(layers), min(_STEPS, len(layers))).astype(int))
    done = 0
    for number, (name, of_layer) in enumerate(layers, start=1):
        for variable in of_layer:
            values = variable.numpy()
            variable.assign(random.permutation(values.ravel()).reshape(values.shape))
        done += len(of_layer)
        if number in stops:
            maps = explain()
            correlations = [
                correlation(*pair)
                for pair in zip(original[telling], maps[telling], strict=True)
            ]
            yield Step(name, done / len(variables), float(np.mean(correlations)), maps)


def _layers(variables: Sequence[Any]) -> list[tuple[str, list[Any]]]:
    """Variables by their layer, the last layer first."""
    layers: dict[str, list[Any]] = {}
    for variable in reversed(variables):
        path = getattr(variable, "path", variable.name)
        layers.setdefault(path.rpartition("/")[0], []).append(variable)
    return list(layers.items())


def correlation(one: Maps, other: Maps) -> float:
    """Spearman's rank correlation of two maps; 0 where one is flat and says nothing."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(spearmanr(one.ravel(), other.ravel()).statistic)
