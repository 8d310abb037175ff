from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from beam_pipeline.document import Mismatch, build


@dataclass(frozen=True)
class Leaf:
    size: int


@dataclass(frozen=True)
class Tree:
    kind: Literal["oak", "ash"]
    age: float | None = None
    rings: tuple[tuple[float, float], ...] | None = None
    leaf: Leaf | None = None
    names: Mapping[str, int] | None = None


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"kind": "oak"}, Tree("oak")),
        ({"kind": "ash", "age": None, "rings": None}, Tree("ash")),
        ({"kind": "oak", "age": 3}, Tree("oak", 3.0)),
        ({"kind": "oak", "rings": []}, Tree("oak", rings=())),
        (
            {"kind": "oak", "rings": [[0, 1], [0.5, 2]]},
            Tree("oak", rings=((0.0, 1.0), (0.5, 2.0))),
        ),
        ({"kind": "oak", "leaf": {"size": 2}}, Tree("oak", leaf=Leaf(2))),
        ({"kind": "oak", "names": {"a": 1}}, Tree("oak", names={"a": 1})),
    ],
)
def test_what_may_be_absent_is_built_where_it_is_there(
    document: dict[str, Any], expected: Tree
) -> None:
    found = build(Tree, document, "tree")
    assert found == expected
    assert isinstance(found.age, float | None)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "a key is missing"),
        ({"kind": "elm"}, "'oak' or 'ash'"),
        ({"kind": "oak", "height": 3}, "height"),
        ({"kind": "oak", "age": True}, r"tree\.age is True, expected a float"),
        ({"kind": "oak", "rings": [[0, 1], [2]]}, r"tree\.rings\[1\] .*2 values"),
        ({"kind": "oak", "rings": [[0, "1"]]}, r"tree\.rings\[0\]\[1\] is '1'"),
        ({"kind": "oak", "leaf": {"size": 2.5}}, r"tree\.leaf\.size is 2\.5"),
        ({"kind": "oak", "names": {"a": None}}, r"tree\.names\.a is None"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(
    document: dict[str, Any], message: str
) -> None:
    with pytest.raises(Mismatch, match=message):
        build(Tree, document, "tree")
