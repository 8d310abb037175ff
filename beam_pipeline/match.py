"""Patterns → the files that match, each once, with what a table says of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import apache_beam as beam

from beam_pipeline import counts, input_manifest, metadata, storage
from beam_pipeline.known import Known, KnownFile, by_uri, looked_up
from beam_pipeline.metadata import PathPattern
from beam_pipeline.packed import PackByShard, unpack
from beam_pipeline.pseudonyms import Pseudonyms
from beam_pipeline.records import Metadata, Source
from beam_pipeline.storage import Settings

SOURCES, CARRIED = "sources", "carried"
UNMATCHED_METADATA = "metadata_without_file"
UNMATCHED_PATH = "path_without_match"
# Files of a manifest without sizes: each costs a round trip.
_ASKED = 256
_ASKED_AT_ONCE = 16


@dataclass
class Match(beam.PTransform):
    """The files that match any of `patterns`, spread over the workers.

    Grouping them in shards by URI spreads them like a Reshuffle, lists a file once that
    two patterns match, and joins what the table `metadata` and earlier runs say of it.

    Expands on what is known, `KnownFile`s. Its outputs are `sources`, the files to
    read, and `carried`, those whose row is taken from an earlier run.

    Attributes:
        patterns: as `storage.normalise` gives them.
        metadata: path of a table of what files without a header do not say.
        path_pattern: what finds the same in their paths.
        pseudonyms: what replaces paths in rows.
        manifests: paths of tables of files; see `input_manifest`.
        storage: how the places are reached where files are; what the pipeline's options
            say by default.
    """

    patterns: tuple[str, ...] = ()
    metadata: str | None = None
    path_pattern: PathPattern | None = None
    pseudonyms: Pseudonyms | None = None
    manifests: tuple[str, ...] = ()
    storage: Settings | None = None

    def expand(self, known: beam.PCollection[KnownFile]) -> Any:
        begin = known.pipeline
        files = (
            (self._listed(begin), self._named(begin))
            | "Files" >> beam.Flatten()
            | "KeyByUri" >> beam.Map(_by_uri, self.pseudonyms)
            | "PackFiles" >> PackByShard()
        )
        tables = [] if self.metadata is None else [self.metadata]
        described = (
            begin
            | "Metadata" >> beam.Create(tables)
            | "ReadMetadata" >> beam.FlatMap(metadata.read)
            | "KeyMetadata" >> beam.Map(_rekeyed, self.pseudonyms)
            | "PackMetadata" >> PackByShard()
        )
        rows = (
            known | "KnownByUri" >> beam.FlatMap(by_uri) | "PackKnown" >> PackByShard()
        )
        return (
            {"files": files, "metadata": described, "known": rows}
            | "Spread" >> beam.CoGroupByKey()
            | "EachOnce"
            >> beam.ParDo(_Join(self.path_pattern, self.pseudonyms)).with_outputs(
                CARRIED, main=SOURCES
            )
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
        return Settings.of(begin.options.get_all_options(drop_default=True))


def _found(sources: list[Source], settings: Settings) -> Iterator[Source]:
    """`sources`, those without a size as storage knows them: asked for side by side."""
    unknown = [source.uri for source in sources if source.size is None]
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as threads:
        found = threads.map(partial(storage.find, settings=settings), unknown)
        for source in sources:
            yield next(found) if source.size is None else source


def _by_uri(source: Source, pseudonyms: Pseudonyms | None) -> tuple[str, Source]:
    counts.count(counts.FOUND)
    return _rekeyed((source.uri, source), pseudonyms)


def _rekeyed(keyed: tuple[str, Any], pseudonyms: Pseudonyms | None) -> tuple[str, Any]:
    """A value by the URI that rows have, which is what earlier runs know."""
    uri, value = keyed
    return (uri if pseudonyms is None else pseudonyms.uri(uri)), value


class _Join(beam.DoFn):
    """What is listed, described and known of a shard → how each row comes about."""

    def __init__(
        self, path_pattern: PathPattern | None, pseudonyms: Pseudonyms | None
    ) -> None:
        super().__init__()
        self._path_pattern = path_pattern
        self._pseudonyms = pseudonyms

    def process(
        self, entry: tuple[int, Mapping[str, Iterable[bytes]]]
    ) -> Iterator[Source | beam.pvalue.TaggedOutput]:
        _, found = entry
        files: dict[str, Source] = dict(unpack(found["files"]))
        described: dict[str, Metadata] = dict(unpack(found["metadata"]))
        known: defaultdict[str, list[Known]] = defaultdict(list)
        for uri, row in unpack(found["known"]):
            known[uri].append(row)
        counts.count(counts.LISTED, len(files))
        counts.count(UNMATCHED_METADATA, len(described.keys() - files.keys()))
        for uri, source in files.items():
            yield self._looked_up(source, described.get(uri), known[uri])

    def _looked_up(
        self, source: Source, described: Metadata | None, known: Iterable[Known]
    ) -> Source | beam.pvalue.TaggedOutput:
        etag = self._pseudonyms.etag(source.etag) if self._pseudonyms else source.etag
        element = looked_up(self._described(source, described), known, etag)
        if isinstance(element, Source):
            return element
        counts.count(counts.CARRIED)
        return beam.pvalue.TaggedOutput(CARRIED, element)

    def _described(self, source: Source, described: Metadata | None) -> Source:
        if described is None and self._path_pattern is not None:
            described = self._path_pattern.of(source.uri)
            if described is None:
                counts.count(UNMATCHED_PATH)
        if described is None:
            return source
        digest = metadata.digest(described, self._pseudonyms)
        return replace(source, metadata=described, metadata_digest=digest)
