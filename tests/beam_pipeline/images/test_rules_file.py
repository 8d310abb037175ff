"""rules.py: files of rules, and what is wrong with them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from beam_pipeline.images import rules
from beam_pipeline.images.eligibility import Finding, Rule, Rules
from beam_pipeline.images.rules import RulesError
from tests import radiographs

MANIFEST = radiographs.manifest()


def compiled(tmp_path: Path, text: str) -> Rules:
    path = tmp_path / "rules.toml"
    path.write_text(text)
    return rules.compiled(MANIFEST, path)


def named(found: Rules, name: str) -> Rule:
    [rule] = [rule for rule in found.rules if rule.name == name]
    return rule


def test_a_rule_takes_what_the_manifest_says() -> None:
    found = rules.compiled(MANIFEST)
    assert named(found, "view").test.any_of == ("AP", "PA", "FRONTAL")
    assert named(found, "age").test.range == (1, 5)


def test_a_rule_about_what_the_manifest_leaves_out_does_not_apply() -> None:
    ageless = dataclasses.replace(radiographs.ELIGIBILITY, patient_age_years=None)
    found = rules.compiled(radiographs.manifest(eligibility=ageless))
    assert "age" not in [rule.name for rule in found.rules]


def test_a_file_of_ones_own_replaces_all(tmp_path: Path) -> None:
    found = compiled(
        tmp_path,
        "[[rule]]\nname='site'\nattribute='StationName'\nany_of=['A']\nreject='OTHER'",
    )
    assert [rule.name for rule in found.rules] == ["site"]
    assert found.asked.keywords == {"StationName"}


def test_a_file_may_change_add_and_leave_out(tmp_path: Path) -> None:
    found = compiled(
        tmp_path,
        """
        extends = "default"
        without = ["view"]
        [[rule]]
        name = "age"
        flag = "AGE_OUT_OF_SCOPE"
        [[rule]]
        name = "portable"
        attribute = "StationName"
        matches = "PORTABLE"
        negate = true
        flag = "PORTABLE"
        """,
    )
    names = [rule.name for rule in found.rules]
    assert "view" not in names
    assert names[-1] == "portable"
    assert named(found, "age").unmet == Finding(flag="AGE_OUT_OF_SCOPE")
    assert named(found, "age").test.range == (1, 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[rule]", "cannot be read as TOML"),
        ("rules = 1", "unknown key rules"),
        ("extends = 'other'", 'extends can be "default" alone'),
        ("extends = 'default'\nwithout = ['veiw']", "veiw"),
        ("[[rule]]\nattribute='rows'", "rule 1 has no name"),
        ("[[rule]]\nname='x'\nattribute='rows'\nreject='A'", "exactly one test"),
        (
            "[[rule]]\nname='x'\nattribute='rows'\nrange=[1,2]\nany_of=[1]\nreject='A'",
            "exactly one test",
        ),
        ("[[rule]]\nname='x'\nattribute='rows'\nrange=[1,2]", "reject or flag"),
        (
            "[[rule]]\nname='x'\nattribute='rows'\nrange=[1,2]\nreject='too small'",
            "a code such as",
        ),
        (
            "[[rule]]\nname='x'\nattribute='rowz'\nrange=[1,2]\nreject='A'",
            "'rowz' is no attribute; the nearest is rows",
        ),
        (
            "[[rule]]\nname='x'\nattribute='SeriesDescripton'\nmatches='a'\nflag='A'",
            "the nearest is SeriesDescription",
        ),
        (
            "[[rule]]\nname='x'\nattribute='PixelData'\nmatches='a'\nflag='A'",
            "holds no text",
        ),
        (
            "[[rule]]\nname='x'\nattribute='rows'\nmatches='('\nflag='A'",
            "matches: missing",
        ),
        (
            "[[rule]]\nname='x'\nattribute='rows'\nrange=[1]\nflag='A'",
            "2 values",
        ),
        (
            "[[rule]]\nname='x'\nattribute='rows'\nrange=[20,0]\nflag='A'",
            "20 to 0 holds nothing",
        ),
        (
            "[[rule]]\nname='x'\nattribute='rows'\nrang=[1,2]\nflag='A'",
            "unknown key rang",
        ),
        (
            "[[rule]]\nname='x'\nattribute='rows'\nany_of=['manifest.x']\nflag='A'",
            "manifest.x is none of",
        ),
        (
            "[[rule]]\nname='x'\nattribute='outlier_score'\nrange=[0,1]\nflag='A'\n"
            "when={attribute='rows',absent=true}",
            "has no when",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(RulesError, match=r"rules\.toml") as caught:
        compiled(tmp_path, text)
    assert message in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match=r"gone\.toml"):
        rules.compiled(MANIFEST, tmp_path / "gone.toml")
