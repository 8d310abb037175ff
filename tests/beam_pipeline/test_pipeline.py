from __future__ import annotations

from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from beam_pipeline.manifest import ManifestError
from beam_pipeline.pipeline import ScoreRadiographs
from beam_pipeline.records import Source
from tests import radiographs

Export = tuple[Path, dict[str, tuple[str, str | None]]]


def test_the_transform_serves_in_a_pipeline_of_ones_own(
    export: Export, model_dir: Path
) -> None:
    folder, expected = export
    sources = [Source(str(p)) for p in folder.rglob("*") if p.is_file()]
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        outcomes = pipeline | beam.Create(sources) | ScoreRadiographs(str(model_dir))
        found = outcomes | beam.Map(
            lambda o: (Path(o.source_uri).name, (str(o.status), o.reason))
        )
        assert_that(found, equal_to(expected.items()))


def test_a_model_that_cannot_be_used_fails_on_the_launcher(tmp_path: Path) -> None:
    with pytest.raises(ManifestError):
        ScoreRadiographs(str(tmp_path))


def test_an_unblessed_model_fails_on_the_launcher_unless_it_is_allowed(
    tmp_path: Path,
) -> None:
    model = str(radiographs.save_model(tmp_path / "model", blessing=None))
    with pytest.raises(ManifestError, match="not blessed"):
        ScoreRadiographs(model)
    assert ScoreRadiographs(model, allow_unblessed=True).policy.thresholds == (0.5,)


def test_an_unknown_operating_point_fails_on_the_launcher(model_dir: Path) -> None:
    with pytest.raises(ValueError, match="default, screening"):
        ScoreRadiographs(str(model_dir), operating_point="x")
