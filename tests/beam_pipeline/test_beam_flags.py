"""Beam's flags are those that Beam itself would parse."""

from __future__ import annotations

from apache_beam.options import pipeline_options
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipeline import flink
from beam_pipeline.beam_flags import beam_flags


def test_they_are_those_of_every_class_of_options() -> None:
    parser = pipeline_options._BeamArgumentParser(
        add_help=False, conflict_handler="resolve"
    )
    modules = {pipeline_options.__name__, flink.__name__}
    classes = [c for c in PipelineOptions.__subclasses__() if c.__module__ in modules]
    assert flink.FlinkJobOptions in classes
    for options in classes:
        options._add_argparse_args(parser)
    assert beam_flags() == set(parser._option_string_actions)
