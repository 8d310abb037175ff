"""May this model score this radiograph? Rules over a file's header.

`check` asks all of them, `require` raises for the first that refuses. The rules
themselves are data: `rules.toml`, which `rules.py` reads.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydicom.uid import UID

from beam_pipeline.errors import Rejected
from beam_pipeline.images.header import Asked, Header

# What only the model can tell; rules about it are asked after inference.
OUTLIER_SCORE = "outlier_score"
COLUMNS = frozenset(
    {
        *(field.name for field in dataclasses.fields(Header)),
        "patient_age_completed_years",
        "aspect_ratio",
        OUTLIER_SCORE,
    }
) - {"stated", "attributes", "flags"}


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A test of one attribute: exactly one of `any_of`, `matches`, `range`, `absent`.

    Attributes:
        attribute: a name of `Header`, or a DICOM keyword.
        any_of: met when a value is one of these, ignoring case.
        matches: met when this regular expression is found, ignoring case, in the
            values, joined by backslashes as DICOM writes them.
        range: met when the first value is a number from the first to the second.
        absent: met when the file does not say.
        negate: met when the test is not.
    """

    attribute: str
    any_of: tuple[Any, ...] | None = None
    matches: str | None = None
    range: tuple[float, float] | None = None
    absent: bool = False
    negate: bool = False

    def met(self, values: tuple[Any, ...]) -> bool:
        """Whether `values` of the attribute meet it."""
        return self._tested(values) != self.negate

    def _tested(self, values: tuple[Any, ...]) -> bool:
        if self.any_of is not None:
            wanted = {_comparable(each) for each in self.any_of}
            return any(_comparable(value) in wanted for value in values)
        if self.matches is not None:
            written = "\\".join(map(str, values))
            return re.search(self.matches, written, re.IGNORECASE) is not None
        if self.range is not None:
            low, high = self.range
            return low <= _number(values) <= high
        return not values


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A code, and whether it rejects the file or flags it."""

    reject: str | None = None
    flag: str | None = None

    @property
    def code(self) -> str:
        """The reason or the flag."""
        return self.reject or self.flag or ""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a file must meet, and what it is found to be where it does not.

    `detail` says so in words, where the test itself does not.
    """

    name: str
    test: Condition
    unmet: Finding
    when: Condition | None = None
    absent: Finding | None = None
    detail: str = ""


@dataclass(frozen=True)
class Verdict:
    """What one rule says of one file.

    Attributes:
        rule: the rule's name.
        finding: why the file is refused or flagged; None where the rule is met.
        detail: what was found, and what was expected.
    """

    rule: str
    finding: Finding | None
    detail: str


@dataclass(frozen=True)
class Rules:
    """The rules of one model, in the order in which they are asked."""

    rules: tuple[Rule, ...]

    @property
    def asked(self) -> Asked:
        """What a header must tell for them."""
        conditions = [
            condition
            for rule in self.rules
            for condition in (rule.test, rule.when)
            if condition is not None
        ]
        return Asked(
            frozenset(c.attribute for c in conditions) - COLUMNS,
            frozenset(
                value.upper()
                for condition in conditions
                if condition.attribute in COLUMNS
                for value in condition.any_of or ()
                if isinstance(value, str)
            ),
        )


def flags_of(rules: Rules, attribute: str) -> frozenset[str]:
    """Every flag that the rules about `attribute` may give."""
    return frozenset(
        finding.flag
        for rule in rules.rules
        if rule.test.attribute == attribute
        for finding in (rule.unmet, rule.absent)
        if finding is not None and finding.flag is not None
    )


def check(header: Header, rules: Rules) -> tuple[Verdict, ...]:
    """The verdict of every rule, in order; some have to wait for the model."""
    return tuple(_verdict(rule, header) for rule in rules.rules)


def check_outlier_score(score: float | None, rules: Rules) -> tuple[Verdict, ...]:
    """The verdict of every rule about the outlier score; None was not a number."""
    values = () if score is None else (score,)
    return tuple(
        _judged(rule, values, f"{OUTLIER_SCORE} {score}")
        for rule in rules.rules
        if rule.test.attribute == OUTLIER_SCORE
    )


def require(verdicts: Iterable[Verdict]) -> tuple[str, ...]:
    """The flags among the verdicts, each once.

    Raises:
        Rejected: for the first rule that refuses the file.
    """
    found = [verdict for verdict in verdicts if verdict.finding is not None]
    for verdict in found:
        if verdict.finding and verdict.finding.reject:
            raise Rejected(verdict.finding.reject, verdict.detail)
    return tuple(dict.fromkeys(v.finding.code for v in found if v.finding))


def _verdict(rule: Rule, header: Header) -> Verdict:
    if rule.test.attribute == OUTLIER_SCORE:
        return Verdict(rule.name, None, "asked after inference")
    if rule.when and not rule.when.met(header.values(rule.when.attribute)):
        return Verdict(rule.name, None, "does not apply")
    values = header.values(rule.test.attribute)
    return _judged(rule, values, _shown(rule.test.attribute, header))


def _judged(rule: Rule, values: tuple[Any, ...], shown: str) -> Verdict:
    if not values:
        return Verdict(rule.name, rule.absent, f"{rule.test.attribute} is not stated")
    if rule.test.met(values):
        return Verdict(rule.name, None, shown)
    why = f": {rule.detail}" if rule.detail else f" {_wanted(rule)}"
    return Verdict(rule.name, rule.unmet, f"{shown}{why}")


def _shown(attribute: str, header: Header) -> str:
    # A column was vetted; what a DICOM keyword holds may be a patient's name.
    if attribute in header.attributes:
        return attribute
    value = getattr(header, attribute, None)
    return f"{attribute} {_named(value)}"


def _wanted(rule: Rule) -> str:
    test = rule.test
    if test.attribute not in COLUMNS:
        # What it is compared with may be a name, and the value with it.
        phrase = f"as the rule {rule.name} wants it"
    elif test.range is not None:
        phrase = f"from {test.range[0]:g} to {test.range[1]:g}"
    elif test.matches is not None:
        phrase = f"a match of {test.matches}"
    else:
        phrase = "one of " + ", ".join(str(_named(each)) for each in test.any_of or ())
    return f"is {phrase}" if test.negate else f"is not {phrase}"


def _named(value: object) -> object:
    known = isinstance(value, str) and re.fullmatch(r"[0-9.]+", value)
    return UID(str(value)).name if known else value


def _comparable(value: Any) -> str:
    # A DICOM keyword's values are text, also where they are numbers.
    return str(value).upper()


def _number(values: tuple[Any, ...]) -> float:
    try:
        return float(values[0])
    # What stands there is no number, which is in no range.
    except (ValueError, IndexError):
        return float("nan")
