from __future__ import annotations

import os
import time
from datetime import date
from pathlib import Path

import pytest

from beam_pipeline import dates

DAY = date(2026, 3, 7)


@pytest.mark.parametrize(
    ("path", "filled"),
    [
        ("/exports/{date}/**", "/exports/2026-03-07/**"),
        ("s3://pacs/{date:%Y/%m/%d}/**", "s3://pacs/2026/03/07/**"),
        ("/exports/{date:%Y%m%d}-{date:%j}", "/exports/20260307-066"),
        ("/no/place/for/it", "/no/place/for/it"),
        ("/a{{b}}/{date}", "/a{b}/2026-03-07"),
    ],
)
def test_the_day_takes_its_place(path: str, filled: str) -> None:
    assert dates.fill(path, DAY) == filled


@pytest.mark.parametrize(
    "path",
    ["{day}", "{}", "{0}", "{date", "date}", "{date.year}", "{date!r}", "{date:{x}}"],
)
def test_other_braces_are_refused_and_it_says_how_to_write_them(path: str) -> None:
    with pytest.raises(
        ValueError, match=r"\{\{ and \}\} for braces in a name"
    ) as error:
        dates.fill(f"/exports/{path}", DAY)
    assert str(error.value).startswith(f"/exports/{path}: ")


def test_a_file_with_braces_in_its_name_is_itself(tmp_path: Path) -> None:
    for name in ("a{b}.dcm", "{date}", "half{"):
        (tmp_path / name).touch()
        assert dates.fill(str(tmp_path / name), DAY) == str(tmp_path / name)


@pytest.fixture
def far_west(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is Friday until noon of Saturday, UTC."""
    monkeypatch.setenv("TZ", "<-12>12")
    time.tzset()


@pytest.fixture(autouse=True)
def own_time_zone() -> object:
    yield
    time.tzset()


def test_today_and_yesterday_are_days_of_the_local_time_zone(
    far_west: None,
) -> None:
    local = date(*time.localtime()[:3])
    assert dates.parse("today") == local
    assert dates.parse("yesterday").toordinal() == local.toordinal() - 1
    assert os.environ["TZ"] == "<-12>12"


def test_a_day_may_be_named() -> None:
    assert dates.parse("2026-03-07") == DAY
    with pytest.raises(ValueError, match="'7 March' is no day; give one as 2026-11-20"):
        dates.parse("7 March")
