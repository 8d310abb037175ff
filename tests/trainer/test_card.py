"""The model card is read strictly and says which classes are findings."""

from __future__ import annotations

from pathlib import Path

import pytest

from beam_pipeline.manifest import ManifestError
from trainer import card
from trainer.card import CHEST_RADIOGRAPHS, Card

CARDS = Path(card.__file__).parent / "cards"


@pytest.fixture
def load(tmp_path):
    def write_and_load(text):
        path = tmp_path / "card.toml"
        path.write_text(text, "utf-8")
        return card.load(path)

    return write_and_load


def test_an_empty_card_has_the_defaults(load):
    assert load("") == Card()
    assert Card().eligibility == CHEST_RADIOGRAPHS


def test_a_card_says_what_is_in_it_and_nothing_else_changes(load):
    found = load(
        """
        name = "größe"
        version = "2"
        findings = ["VIRUS", "BACTERIA"]
        limits = '''
        one
        two'''
        """
    )
    assert (found.name, found.version) == ("größe", "2")
    assert found.findings == ("VIRUS", "BACTERIA")
    assert [line.strip() for line in found.limits.splitlines()] == ["one", "two"]
    assert found.intended_use == Card().intended_use


def test_a_card_can_say_which_radiographs_may_be_scored(load):
    found = load(
        """
        [eligibility]
        sop_classes = ["1.2.3"]
        modalities = ["DX"]
        body_parts = ["HAND"]
        views = []
        patient_age_years = [18, 99.5]
        """
    ).eligibility
    assert (found.sop_classes, found.views) == (("1.2.3",), ())
    assert found.patient_age_years == (18.0, 99.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "TOML"),
        ('nmae = "x"', "nmae"),
        ("version = 2", "version"),
        ('findings = "PNEUMONIA"', "findings"),
        ("findings = [1]", r"findings\[0\]"),
        ('[eligibility]\nmodalities = ["CR"]', "body_parts"),
        ("[eligibility]\nages = [1, 5]", "ages"),
    ],
    ids=[
        "no TOML",
        "an unknown key",
        "a number for a text",
        "a text for a list",
        "a number in a list",
        "half an eligibility",
        "an unknown key of eligibility",
    ],
)
def test_a_card_that_cannot_be_meant_is_refused(load, text, message):
    with pytest.raises(ManifestError, match=message):
        load(text)


def test_a_card_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "card.toml"
    path.write_bytes(b'name = "\xff\xfe"')
    with pytest.raises(ManifestError, match=r"card\.toml"):
        card.load(path)


def test_a_card_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(ManifestError, match=r"missing\.toml"):
        card.load(tmp_path / "missing.toml")


@pytest.mark.parametrize("path", [*CARDS.glob("*.toml")], ids=lambda path: path.stem)
def test_the_cards_in_the_box_leave_nothing_unsaid(path):
    found = card.load(path)
    for value in (found.source, found.licence, found.intended_use, found.limits):
        assert value != Card().source
    assert found.name


def test_there_are_cards_in_the_box():
    assert list(CARDS.glob("*.toml"))


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (("NORMAL", "PNEUMONIA"), ("PNEUMONIA",)),
        (("BACTERIA", "NORMAL", "VIRUS"), ("BACTERIA", "VIRUS")),
        (("Normal", "pneumonia"), ("pneumonia",)),
        (("ABNORMAL", "NORMAL"), ("ABNORMAL",)),
    ],
    ids=["two classes", "three classes", "lower case", "a name that ends alike"],
)
def test_all_classes_but_normal_are_findings(classes, expected):
    assert card.findings(Card(), classes) == expected


def test_findings_that_are_named_are_the_findings():
    classes = ("BACTERIA", "HEALTHY", "NORMAL", "VIRUS")
    assert card.findings(Card(findings=("VIRUS",)), classes) == ("VIRUS",)


def test_classes_without_normal_need_a_card_that_names_findings():
    with pytest.raises(ManifestError, match="--card"):
        card.findings(Card(), ("HEALTHY", "SICK"))


@pytest.mark.parametrize(
    "findings",
    [("PNEUMONIE",), ("PNEUMONIA", "NORMAL"), ("PNEUMONIA", "PNEUMONIA")],
    ids=["no class", "every class", "one twice"],
)
def test_findings_that_cannot_be_scored_are_refused_before_training(findings):
    with pytest.raises(ManifestError, match=findings[-1]):
        card.findings(Card(findings=findings), ("NORMAL", "PNEUMONIA"))
