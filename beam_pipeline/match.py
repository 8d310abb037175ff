"""Patterns → the files that match, each once, with what a table says of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics

from beam_pipeline import input_manifest, metadata, storage
from beam_pipeline.metadata import PathPattern
from beam_pipeline.records import Metadata, Source
from beam_pipeline.storage import Settings

UNMATCHED_METADATA = "metadata_without_file"
UNMATCHED_PATH = "path_without_match"
_METRICS = "beam_pipeline"
# Files of a manifest without sizes: each costs a round trip.
_ASKED = 256
_ASKED_AT_ONCE = 16


@dataclass
class Match(beam.PTransform):
    """The files that match any of `patterns`, as `Source`s, spread over the workers.

    Grouping by URI spreads them like a Reshuffle, lists a file once that two patterns
    match, and joins what the table `metadata` says of it.

    Attributes:
        patterns: as `storage.normalise` gives them.
        metadata: path of a table of what files without a header do not say.
        path_pattern: what finds the same in their paths.
        manifests: paths of tables of files; see `input_manifest`.
        storage: how the places are reached where files are; what the pipeline's options
            say by default.
    """

    patterns: tuple[str, ...] = ()
    metadata: str | None = None
    path_pattern: PathPattern | None = None
    manifests: tuple[str, ...] = ()
    storage: Settings | None = None

    def expand(self, begin: beam.Pipeline) -> beam.PCollection[Source]:
        files = (
            (self._listed(begin), self._named(begin))
            | "Files" >> beam.Flatten()
            | "KeyByUri" >> beam.Map(_by_uri)
        )
        tables = [] if self.metadata is None else [self.metadata]
        described = (
            begin
            | "Metadata" >> beam.Create(tables)
            | "ReadMetadata" >> beam.FlatMap(metadata.read)
        )
        return (
            {"files": files, "metadata": described}
            | "Spread" >> beam.CoGroupByKey()
            | "EachOnce" >> beam.FlatMap(_joined, self.path_pattern)
        )

    def _listed(self, begin: beam.Pipeline) -> beam.PCollection[Source]:
        """What matches the patterns, each part of it listed by one worker."""
        settings = self._settings(begin)
        return (
            begin
            | "Patterns" >> beam.Create(self.patterns)
            | "Divide" >> beam.FlatMap(storage.divide, settings)
            | "SpreadParts" >> beam.Reshuffle()
            | "List" >> beam.FlatMap(storage.list_part, settings)
        )

    def _named(self, begin: beam.Pipeline) -> beam.PCollection[Source]:
        """What the manifests name, with sizes and times where they do not tell."""
        return (
            begin
            | "Manifests" >> beam.Create(self.manifests)
            | "ReadManifests" >> beam.FlatMap(input_manifest.read)
            | "SpreadNames" >> beam.Reshuffle()
            | "InBatches" >> beam.BatchElements(_ASKED, _ASKED)
            | "Find" >> beam.FlatMap(_found, self._settings(begin))
        )

    def _settings(self, begin: beam.Pipeline) -> Settings:
        if self.storage is not None:
            return self.storage
        return Settings.of(begin.pipeline.options.get_all_options(drop_default=True))


def _found(sources: list[Source], settings: Settings) -> Iterator[Source]:
    """`sources`, those without a size as storage knows them: asked for side by side."""
    unknown = [source.uri for source in sources if source.size is None]
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as threads:
        found = threads.map(partial(storage.find, settings=settings), unknown)
        for source in sources:
            yield next(found) if source.size is None else source


def _by_uri(source: Source) -> tuple[str, Source]:
    return source.uri, source


def _joined(
    entry: tuple[str, Mapping[str, Iterable[Any]]], path_pattern: PathPattern | None
) -> Iterator[Source]:
    uri, found = entry
    source = next(iter(found["files"]), None)
    described: Metadata | None = next(iter(found["metadata"]), None)
    if source is None:
        Metrics.counter(_METRICS, UNMATCHED_METADATA).inc()
        return
    if described is None and path_pattern is not None:
        described = path_pattern.of(uri)
        if described is None:
            Metrics.counter(_METRICS, UNMATCHED_PATH).inc()
    yield source if described is None else replace(source, metadata=described)
