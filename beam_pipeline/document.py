"""JSON and TOML documents → frozen dataclasses, strictly.

An unknown key, a missing key or a value of another type is refused with its place.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal


class Mismatch(ValueError):
    """A document that is not what it has to be: where, and what was expected."""


def require(condition: object, where: str, value: object, expected: str) -> None:
    """Raise `Mismatch` unless `condition` holds."""
    if not condition:
        raise Mismatch(f"{where} is {value!r}, expected {expected}")


def build(kind: Any, value: Any, where: str) -> Any:
    """`value`, from JSON or TOML, as the annotated type `kind`, strictly.

    Raises:
        Mismatch: an unknown or missing key, or another type, at `where`.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, value, where)
    if origin is Literal:
        require(value in arguments, where, value, " or ".join(map(repr, arguments)))
        return value
    if origin is types.UnionType:
        return None if value is None else build(arguments[0], value, where)
    if origin is tuple:
        require(isinstance(value, list), where, value, "a list")
        each = arguments[:1] * len(value) if arguments[-1] is ... else arguments
        require(len(each) == len(value), where, value, f"{len(each)} values")
        return tuple(
            build(kind, item, f"{where}[{index}]")
            for index, (kind, item) in enumerate(zip(each, value, strict=True))
        )
    if origin is Mapping:
        require(isinstance(value, dict), where, value, "an object")
        return {k: build(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
    if kind is Any:
        return value
    accepted = (int, float) if kind is float else kind
    # In Python a bool is an int; in JSON and TOML it is not.
    valid = isinstance(value, accepted) and isinstance(value, bool) == (kind is bool)
    require(valid, where, value, f"a {kind.__name__}")
    return kind(value)


def _build_dataclass(kind: Any, value: Any, where: str) -> Any:
    require(isinstance(value, dict), where, value, "an object")
    annotations = typing.get_type_hints(kind)
    unknown = sorted(value.keys() - annotations.keys())
    require(not unknown, where, unknown, "no key but " + ", ".join(annotations))
    required = {
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING
    }
    missing = sorted(required - value.keys())
    require(not missing, f"{where}, in which a key is missing,", missing, "all keys")
    return kind(
        **{
            name: build(annotations[name], item, f"{where}.{name}")
            for name, item in value.items()
        }
    )
