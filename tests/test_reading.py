"""What the README and docs/reading.md say of reading the output, run as it stands."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest
import sqlglot
from sqlglot import expressions

from beam_pipeline.__main__ import main as beam_pipeline
from tests import radiographs

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8").split("## Read the results")[1]
PAGE = (ROOT / "docs" / "reading.md").read_text("utf-8")
# Names that engines take for a date and a number.
FIRST, NEWEST, UNFINISHED = "2026-11-19", "20261120", "20261121"


def blocks(text: str, language: str) -> list[str]:
    """The code of a language in the first section of a Markdown text."""
    section = re.split(r"^## ", text, flags=re.MULTILINE)[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


def section(heading: str) -> str:
    return PAGE.split(f"\n## {heading}\n")[1]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Path:
    """An output of two nights, and a third that did not finish."""
    root = tmp_path_factory.mktemp("reading")
    (root / "in").mkdir()
    for number, brightness in enumerate([0.2, 0.6, 0.8]):
        add(root / "in" / f"{number}.dcm", brightness, f"1.{number}")
    add(root / "in" / "hand.dcm", 0.8, "1.2", BodyPartExamined="HAND")
    (root / "in" / "broken.dcm").write_bytes(b"")
    (root / "in" / "text.dcm").write_text("no DICOM" * 100)
    score(root, model_dir, FIRST)
    add(root / "in" / "broken.dcm", 0.9, "1.2")
    (root / "in" / "0.dcm").unlink()
    (root / "in" / "cut.dcm").write_bytes(b"")
    score(root, model_dir, NEWEST)
    score(root, model_dir, UNFINISHED, "--threshold=0")
    (root / "out" / "runs" / UNFINISHED / "_SUCCESS").unlink()
    # A run of an older version lacks a column.
    [part] = (root / "out" / "instances" / f"run={FIRST}").iterdir()
    older = pq.read_table(part, partitioning=None).drop_columns(["source_etag"])
    pq.write_table(older, part)
    return root / "out"


def add(path: Path, brightness: float, study: str, **attributes: str) -> None:
    dataset = radiographs.dicom(
        radiographs.chest(brightness), StudyInstanceUID=study, **attributes
    )
    path.write_bytes(radiographs.to_bytes(dataset))


def score(root: Path, model: Path, run_id: str, *flags: str) -> None:
    command = ["score", f"--input={root / 'in'}", f"--output={root / 'out'}"]
    command += [f"--model={model}", f"--run_id={run_id}", "--read_workers=1"]
    assert beam_pipeline([*command, *flags]) == 0


@pytest.fixture
def instances(results: Path) -> dict[str, list[dict]]:
    """The rows of each finished run."""
    return {run: table(results, "instances", run) for run in (FIRST, NEWEST)}


def table(results: Path, name: str, run: str) -> list[dict]:
    return pq.read_table(results / name / f"run={run}").to_pylist()


def latest(instances: dict[str, list[dict]]) -> dict[str, dict]:
    rows = [*instances[FIRST], *instances[NEWEST]]
    return {row["source_uri"]: row for row in rows}


def positives(results: Path, instances: dict[str, list[dict]]) -> list[tuple]:
    """Study, images in it, image and score of the positive rows, highest first."""
    studies = {
        row["study_instance_uid"]: row for row in table(results, "studies", NEWEST)
    }
    found = [
        (
            row["study_instance_uid"],
            studies[row["study_instance_uid"]]["images"],
            row["sop_instance_uid"],
            row["score"],
        )
        for row in instances[NEWEST]
        if row["positive"]
    ]
    return sorted(found, key=lambda row: -row[3])


def reasons(instances: dict[str, list[dict]], *statuses: str) -> Counter:
    return Counter(
        (run, row["status"], row["reason"])
        for run, rows in instances.items()
        for row in rows
        if row["status"] in statuses
    )


def test_the_results_are_worth_reading(
    results: Path, instances: dict[str, list[dict]]
) -> None:
    assert len(latest(instances)) == 7
    assert [row[1] for row in positives(results, instances)] == [3, 3, 1]
    assert len(reasons(instances, "ERROR")) == 4


@pytest.fixture
def queries(results: Path) -> tuple[duckdb.DuckDBPyConnection, list[str]]:
    """A connection with the README's views, and the page's queries."""
    connection = duckdb.connect()
    for sql in blocks(README, "sql"):
        connection.execute(sql.replace("/results", str(results)))
    return connection, blocks(section("DuckDB"), "sql")


def test_duckdb_lists_the_studies_of_the_newest_run(
    results: Path, queries: tuple[duckdb.DuckDBPyConnection, list[str]]
) -> None:
    [sql] = blocks(README, "sql")
    last = sql.strip().rsplit("\n\n", 1)[1]
    found = queries[0].execute(last.replace("/results", str(results))).fetchall()
    expected = [
        (row["study_instance_uid"], row["score"], row["positive"])
        for row in table(results, "studies", NEWEST)
        if row["scored"]
    ]
    assert found == sorted(expected, key=lambda row: -row[1])


def test_duckdb_sees_finished_runs_alone(
    queries: tuple[duckdb.DuckDBPyConnection, list[str]],
) -> None:
    found = queries[0].execute("SELECT DISTINCT run, run_id FROM instances ORDER BY 1")
    assert found.fetchall() == [(run, run) for run in (FIRST, NEWEST)]


def test_duckdb_finds_newest_rows_positives_and_errors(
    results: Path,
    instances: dict[str, list[dict]],
    queries: tuple[duckdb.DuckDBPyConnection, list[str]],
) -> None:
    connection, [newest, positive, errors] = queries
    columns = ("source_uri", "status", "reason", "score", "run_id")
    assert connection.execute(newest).fetchall() == sorted(
        tuple(row[name] for name in columns) for row in latest(instances).values()
    )
    assert connection.execute(positive).fetchall() == positives(results, instances)
    counts = reasons(instances, "ERROR", "REJECTED")
    assert (
        Counter(
            {tuple(row[:3]): row[3] for row in connection.execute(errors).fetchall()}
        )
        == counts
    )


@pytest.fixture
def names(results: Path, capsys: pytest.CaptureFixture) -> dict[str, Any]:
    """What the README's and the page's Python leaves behind."""
    found: dict[str, Any] = {}
    for code in [*blocks(README, "python"), *blocks(section("pandas"), "python")]:
        exec(code.replace("/results", str(results)), found)
    return found


def test_pandas_finds_newest_rows_positives_and_errors(
    results: Path, instances: dict[str, list[dict]], names: dict[str, Any]
) -> None:
    assert names["newest"] == NEWEST
    assert set(names["rows"]["run_id"]) == {NEWEST}
    assert set(names["everything"]["run_id"]) == {FIRST, NEWEST}
    assert set(names["everything"].columns) == set(names["rows"].columns)
    found = names["latest"].set_index("source_uri")["score"]
    expected = {uri: row["score"] for uri, row in latest(instances).items()}
    assert {
        uri: None if pd.isna(score) else score for uri, score in found.items()
    } == expected
    positive = names["positive"].sort_values("score", ascending=False)
    columns = ["study_instance_uid", "images", "sop_instance_uid", "score"]
    rows = [tuple(row) for row in positive[columns].itertuples(index=False)]
    assert rows == positives(results, instances)
    assert len(names["errors"]) == reasons(instances, "ERROR").total()


# The clauses of BigQuery's CREATE EXTERNAL TABLE that sqlglot does not know.
EXTERNAL = re.compile(
    r"^WITH (PARTITION COLUMNS \(run STRING\)|CONNECTION `[\w.]+`)$", re.M
)


def test_bigquery_can_parse_its_statements() -> None:
    statements = [
        statement
        for sql in blocks(section("BigQuery"), "sql")
        for statement in sqlglot.parse(EXTERNAL.sub("", sql), dialect="bigquery")
    ]
    kinds = Counter(type(statement) for statement in statements)
    # What sqlglot does not understand it gives as a Command.
    assert kinds == {expressions.Create: 6, expressions.Select: 3}
    tables = {
        found.name
        for statement in statements
        for found in statement.find_all(expressions.Table)
    }
    assert {"instances", "studies", "finished", "run_files"} <= tables


def test_the_columns_that_sql_names_exist(results: Path) -> None:
    known = {"run", "finished", "uri", "updated", "place", "files"}
    for name in ("instances", "studies"):
        known |= set(pq.read_schema(next((results / name).rglob("*.parquet"))).names)
    known.add("source_etag")
    for sql in blocks(section("BigQuery"), "sql")[1:]:
        for statement in sqlglot.parse(sql, dialect="bigquery"):
            found = {each.name for each in statement.find_all(expressions.Column)}
            assert found <= known


def test_python_for_spark_compiles() -> None:
    [code] = blocks(section("Spark"), "python")
    compile(code, "spark", "exec")
