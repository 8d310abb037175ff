"""Facts that stand in the docs and in the code are the same."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from beam_pipeline import options, tables
from beam_pipeline.ending import ExitCode
from beam_pipeline.errors import Failure, Flag, Rejection, StudyReason
from trainer import recipes
from trainer.recipes import Recipe

# As they are when tests are gathered: other tests add one of their own.
RECIPES = dict(recipes.RECIPES)
ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
OUTPUT = (ROOT / "docs" / "output.md").read_text("utf-8")
REASONS = (ROOT / "docs" / "reasons.md").read_text("utf-8")


def rows(text: str) -> list[str]:
    """The first cells of the tables in a Markdown text, in order, if they are code."""
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


def test_the_readme_lists_the_flags_that_there_are() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    options.add_arguments(parser)
    flags = [flag for action in parser._actions for flag in action.option_strings]
    assert [row for row in rows(README) if row.startswith("--")] == flags


def test_the_readme_draws_the_tree_that_there_is() -> None:
    tree = re.search(r"```\n(beam_pipeline/ .*?)```", README, re.DOTALL)[1]
    drawn, parents = set(), []
    for line in tree.splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        parents[depth:] = [name]
        drawn.add("".join(parents))
    assert all((ROOT / path).exists() for path in drawn), drawn
    modules = {
        path.relative_to(ROOT).as_posix()
        for package in ("beam_pipeline", "trainer")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    }
    assert {path for path in drawn if path.endswith(".py")} == modules


def test_the_readme_lists_the_exit_codes_that_there_are() -> None:
    table = README.split("| exit code of `score` |")[1].split("\n\n")[0]
    first = re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE)
    codes = [int(code) for cell in first for code in cell.split(", ")]
    assert codes == [int(code) for code in ExitCode]


def test_every_link_leads_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text("utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_columns_are_those_of_the_schemas() -> None:
    instances, studies = OUTPUT.split("## `studies`")
    assert rows(instances) == tables.INSTANCES.names
    assert rows(studies) == tables.STUDIES.names


@pytest.mark.parametrize(
    ("kind", "heading"),
    [
        (Rejection, "## REJECTED"),
        (Failure, "## ERROR"),
        (Flag, "## Flags"),
        (StudyReason, "## Studies"),
    ],
)
def test_every_reason_is_explained(kind: type, heading: str) -> None:
    section = REASONS.split(heading)[1].split("\n## ")[0]
    assert rows(section) == [str(member) for member in kind]


def test_the_page_on_training_lists_the_recipes_that_there_are() -> None:
    table = (ROOT / "docs" / "training.md").read_text("utf-8").split("## Recipes")[1]
    found = re.findall(r"^\| (`.+) \|$", table.split("\n## ")[0], re.MULTILINE)
    expected = [" | ".join(cells(*item)) for item in RECIPES.items()]
    assert [row.rsplit(" | ", 1)[0] for row in found] == expected


def cells(name: str, recipe: Recipe) -> list[str]:
    head = recipe.head
    of_head = [head.pooling, *map(str, head.dense)]
    of_head += ["norm"] * head.batch_normalization + [f"dropout {head.dropout:g}"]
    stages = [
        f"{stage.unfrozen:g}: {stage.epochs} × {stage.learning_rate:g}"
        for stage in recipe.stages
    ]
    sizes = str(recipe.image_size), ", ".join(of_head), "; ".join(stages)
    return [f"`{name}`", *sizes, str(recipe.batch_size)]


def test_the_changelog_has_the_version() -> None:
    version = re.search(r'version="([^"]+)"', (ROOT / "setup.py").read_text())[1]
    assert f"## {version}\n" in (ROOT / "CHANGELOG.md").read_text("utf-8")
