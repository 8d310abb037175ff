"""Which recipes to try: all combinations of some values, or a random sample."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from scipy.stats import loguniform, randint, uniform
from sklearn.model_selection import ParameterGrid, ParameterSampler

from trainer import recipes
from trainer.recipes import Recipe

# What one trial changes: values by field, as `recipes.changed` takes them.
Changes = Mapping[str, Any]

_NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"(log:)?({_NUMBER})\.\.({_NUMBER})")


def grid(recipe: Recipe, texts: Sequence[str]) -> tuple[Changes, ...]:
    """Every combination of the values of `FIELD=V1,V2,…`.

    Raises:
        ValueError: no such field, one twice, or no values.
    """
    values = {
        field: _values(field, text) for field, text in _by_field(recipe, texts).items()
    }
    return tuple(
        {field: each[field] for field in values} for each in ParameterGrid(values)
    )


def sample(
    recipe: Recipe, texts: Sequence[str], trials: int, seed: int
) -> tuple[Changes, ...]:
    """So many draws of `FIELD=LOW..HIGH`, `FIELD=log:LOW..HIGH` or `FIELD=V1,V2,…`.

    Uniform, log-uniform, or one of the values. Of a field that holds an integer,
    integers are drawn, both ends among them.

    Raises:
        ValueError: no such field, one twice, a range that is none, or lists alone with
            fewer combinations than trials.
    """
    if trials < 1:
        raise ValueError(f"--trials {trials}: one or more are needed")
    given = _by_field(recipe, texts)
    spaces = {field: _space(recipe, field, text) for field, text in given.items()}
    if all(isinstance(space, list) for space in spaces.values()):
        combinations = math.prod(len(space) for space in spaces.values())
        if trials > combinations:
            raise ValueError(
                f"--trials {trials}: there are {combinations} combinations; --grid "
                "tries them all"
            )
    drawn = ParameterSampler(spaces, trials, random_state=seed)
    return tuple(
        {field: _plain(recipe, field, each[field]) for field in spaces}
        for each in drawn
    )


def _by_field(recipe: Recipe, texts: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        field, equals, values = (part.strip() for part in text.partition("="))
        if not equals or not values:
            raise ValueError(f"{text} is not FIELD=VALUES")
        recipes.value_of(recipe, field)
        if field in found:
            raise ValueError(f"{field} is given twice; give all of its values at once")
        found[field] = values
    return found


def _values(field: str, text: str) -> list[Any]:
    # As one TOML list, in which commas within brackets are no separators; words that
    # are not TOML stand without brackets.
    together = recipes.value(f"[{text}]")
    if not isinstance(together, list):
        together = [recipes.value(part.strip()) for part in text.split(",")]
    if any(value == "" for value in together):
        raise ValueError(f"{field}={text}: a value is empty")
    return together


def _space(recipe: Recipe, field: str, text: str) -> Any:
    """A list of values, or a distribution of scipy's."""
    match = _RANGE.fullmatch(text)
    if match is None:
        if ".." in text:
            raise ValueError(f"{field}={text} is not LOW..HIGH or log:LOW..HIGH")
        return _values(field, text)
    is_log, low, high = bool(match[1]), float(match[2]), float(match[3])
    held = recipes.value_of(recipe, field)
    if isinstance(held, bool) or not isinstance(held, int | float):
        raise ValueError(f"{field} holds {held!r}; a range is for a number")
    if low >= high or (is_log and low <= 0):
        least = "0 < LOW < HIGH" if is_log else "LOW < HIGH"
        raise ValueError(f"{field}={text}: {least} is needed")
    if is_log:
        return loguniform(low, high)
    if isinstance(held, int):
        if low % 1 or high % 1:
            raise ValueError(f"{field}={text}: {field} holds integers")
        return randint(int(low), int(high) + 1)
    return uniform(low, high - low)


def _plain(recipe: Recipe, field: str, drawn: Any) -> Any:
    """What was drawn as JSON has it, and an integer where the field holds one."""
    number = drawn.item() if hasattr(drawn, "item") else drawn
    is_integer = type(recipes.value_of(recipe, field)) is int
    return round(number) if is_integer and isinstance(number, float) else number
