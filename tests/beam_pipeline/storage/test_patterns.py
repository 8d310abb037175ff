from __future__ import annotations

import pytest

from beam_pipeline import storage


@pytest.mark.parametrize(
    ("pattern", "path", "covered"),
    [
        ("/data/**", "/data/out/part", True),
        ("/data/*", "/data/out/part", False),
        ("/data/in/**", "/data/out/part", False),
        ("/data/**/*.dcm", "/data/out/part", False),
    ],
)
def test_what_a_pattern_covers(pattern: str, path: str, covered: bool) -> None:
    assert storage.covers(pattern, path) is covered
