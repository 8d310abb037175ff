"""`rules.toml` and files like it → the rules of one model.

A rule may refer to what the model's manifest says; a site's own file may change the
default rules by name, or replace them.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword

from beam_pipeline.document import Mismatch, build
from beam_pipeline.images.eligibility import (
    COLUMNS,
    OUTLIER_SCORE,
    Condition,
    Finding,
    Rule,
    Rules,
)
from beam_pipeline.manifest import Manifest

DEFAULT_RULES = Path(__file__).with_name("rules.toml")

_REFERENCE = "manifest."
_CODE = re.compile(r"[A-Z][A-Z0-9_]*")
_WITHOUT_TEXT = frozenset({"SQ", "OB", "OW", "OF", "OD", "OL", "OV", "UN"})


class RulesError(ValueError):
    """A rules file that cannot be used: where, and what was expected."""


def compiled(manifest: Manifest, path: Path | None = None) -> Rules:
    """The rules of `path`, or the default ones, for the model of `manifest`.

    Raises:
        RulesError: no TOML, an unknown key, attribute or code, an invalid expression.
    """
    document = _read(path or DEFAULT_RULES)
    where = str(path or DEFAULT_RULES)
    entries = _extended(document, where)
    references = _references(manifest)
    return Rules(tuple(_rules(entries, references, where)))


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise RulesError(f"{path} cannot be read as TOML: {error}") from error


def _extended(document: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """The `[[rule]]` tables of a file, upon the default ones where it says so."""
    unknown = document.keys() - {"rule", "extends", "without"}
    _require(not unknown, where, f"unknown key {', '.join(sorted(unknown))}")
    own = document.get("rule", [])
    for number, entry in enumerate(own, 1):
        named = isinstance(entry, dict) and isinstance(entry.get("name"), str)
        _require(named, where, f"rule {number} has no name")
    if "extends" not in document:
        return list(own)
    _require(document["extends"] == "default", where, 'extends can be "default" alone')
    rules = {entry["name"]: entry for entry in _read(DEFAULT_RULES)["rule"]}
    without = document.get("without", [])
    missing = sorted(set(without) - rules.keys())
    _require(not missing, where, f"without: no default rule is called {missing}")
    for entry in own:
        rules[entry["name"]] = _changed(rules.get(entry["name"], {}), entry)
    return [rule for name, rule in rules.items() if name not in without]


def _changed(rule: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """`rule` with the keys of `entry`; a new finding takes the old one's place."""
    exclusive = ({"reject", "flag"}, {"any_of", "matches", "range"})
    gone = {key for keys in exclusive if keys & entry.keys() for key in keys}
    return {**{k: v for k, v in rule.items() if k not in gone}, **entry}


def _references(manifest: Manifest) -> dict[str, Any]:
    said = dataclasses.asdict(manifest.eligibility)
    outlier = manifest.outlier
    said["outlier_range"] = None if outlier is None else (0, outlier.limit)
    return {
        _REFERENCE + name: list(value) if value is not None else None
        for name, value in said.items()
    }


class _LeftOut(Exception):
    """The manifest says nothing of what a rule refers to."""


def _rules(
    entries: Iterable[dict[str, Any]], references: Mapping[str, Any], where: str
) -> Iterator[Rule]:
    for entry in entries:
        place = f"{where}: rule {entry['name']}"
        try:
            yield _rule(_resolved(entry, references, place), place)
        except _LeftOut:
            continue
        except Mismatch as error:
            raise RulesError(str(error)) from error


def _resolved(value: Any, references: Mapping[str, Any], place: str) -> Any:
    """`value` with what it refers to in the place of each reference."""
    if isinstance(value, dict):
        return {k: _resolved(v, references, place) for k, v in value.items()}
    if isinstance(value, list):
        found = [_resolved(each, references, place) for each in value]
        return [item for each in found for item in _spread(each)]
    if not (isinstance(value, str) and value.startswith(_REFERENCE)):
        return value
    names = ", ".join(references)
    _require(value in references, place, f"{value} is none of {names}")
    if references[value] is None:
        raise _LeftOut
    return references[value]


def _spread(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _rule(entry: dict[str, Any], place: str) -> Rule:
    tests = {field.name for field in dataclasses.fields(Condition)} - {"absent"}
    detail = entry.get("detail", "")
    _require(isinstance(detail, str), place, "detail is no text")
    unmet = {key: entry[key] for key in ("reject", "flag") if key in entry}
    unknown = (
        entry.keys() - tests - {"name", "when", "absent", "reject", "flag", "detail"}
    )
    _require(not unknown, place, f"unknown key {', '.join(sorted(unknown))}")
    test = {key: value for key, value in entry.items() if key in tests}
    rule = Rule(
        name=entry["name"],
        test=_condition(test, place),
        unmet=_finding(unmet, place),
        when=_condition(entry["when"], place) if "when" in entry else None,
        absent=_finding(entry["absent"], place) if "absent" in entry else None,
        detail=detail,
    )
    late = OUTLIER_SCORE in (rule.test.attribute, rule.when and rule.when.attribute)
    _require(
        not late or rule.when is None,
        place,
        f"a rule about {OUTLIER_SCORE} has no when",
    )
    return rule


def _condition(entry: Any, place: str) -> Condition:
    condition: Condition = build(Condition, entry, place)
    given = (condition.any_of, condition.matches, condition.range)
    count = sum(test is not None for test in given) + condition.absent
    _require(count == 1, place, "exactly one test is needed: any_of, matches or range")
    low, high = condition.range or (0, 0)
    _require(low <= high, place, f"range: {low:g} to {high:g} holds nothing")
    _check_attribute(condition.attribute, place)
    try:
        re.compile(condition.matches or "")
    except re.error as error:
        raise RulesError(f"{place}: matches: {error}") from error
    return condition


def _check_attribute(attribute: str, place: str) -> None:
    if attribute in COLUMNS:
        return
    tag = tag_for_keyword(attribute)
    if tag is None:
        from pydicom._dicom_dict import DicomDictionary

        known = [*COLUMNS, *(entry[4] for entry in DicomDictionary.values())]
        nearest = difflib.get_close_matches(attribute, known, n=1)
        hint = f"; the nearest is {nearest[0]}" if nearest else ""
        raise RulesError(f"{place}: {attribute!r} is no attribute{hint}")
    text = not _WITHOUT_TEXT & set(dictionary_VR(tag).split())
    _require(text, place, f"{attribute} holds no text or number")


def _finding(entry: Any, place: str) -> Finding:
    finding: Finding = build(Finding, entry, place)
    codes = [code for code in (finding.reject, finding.flag) if code is not None]
    well = len(codes) == 1 and _CODE.fullmatch(codes[0])
    _require(well, place, "reject or flag is needed, a code such as BODY_PART")
    return finding


def _require(condition: object, where: str, message: str) -> None:
    if not condition:
        raise RulesError(f"{where}: {message}")
