"""Any other scheme that Beam's filesystems carry: azfs, hdfs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, BinaryIO, cast

from beam_pipeline.records import Source
from beam_pipeline.storage import local
from beam_pipeline.storage.faults import Fault
from beam_pipeline.storage.settings import Settings


def open(source: Source, settings: Settings) -> BinaryIO:
    """The bytes of a file; never decompressed by its name."""
    from apache_beam.io.filesystem import CompressionTypes

    files = _filesystems(settings)
    stream = files.open(source.uri, compression_type=CompressionTypes.UNCOMPRESSED)
    return cast(BinaryIO, stream)


def find(uri: str, settings: Settings) -> Source:
    """The file as listing would give it.

    Raises:
        Fault: it is not there, or may not be asked for.
    """
    for source in list_part(uri, uri, settings):
        return source
    raise Fault("it is not there")


def normalise(pattern: str, settings: Settings) -> str:
    """`pattern` as it is."""
    return pattern


def divide(pattern: str, settings: Settings) -> Iterator[Source | str]:
    """Beam lists a pattern at once."""
    yield pattern


def list_part(pattern: str, part: str, settings: Settings) -> Iterator[Source]:
    """What matches, as Beam finds it.

    Raises:
        Fault: it cannot be listed.
    """
    from apache_beam.io.filesystem import BeamIOError

    try:
        [found] = _filesystems(settings).match([part])
    except BeamIOError as error:
        raise Fault(f"it cannot be listed: {error}") from error
    for each in found.metadata_list:
        modified = local.time(each.last_updated_in_seconds or None)
        yield Source(each.path, each.size_in_bytes, modified)


def prepare(settings: Settings) -> None:
    """Import what reading needs."""
    _filesystems(settings)


@lru_cache(maxsize=4)
def _filesystems(settings: Settings) -> Any:
    """Beam's filesystems, with the options that a process without Beam lacks."""
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    if FileSystems._pipeline_options is None:
        FileSystems.set_options(PipelineOptions.from_dictionary(dict(settings.options)))
    return FileSystems
