"""Tables that people give, CSV or Parquet, row by row: of any length."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems


def rows(path: str, check: Callable[[Sequence[str]], None]) -> Iterator[dict[str, Any]]:
    """The rows of the table at `path`; what does not end in `.parquet` is read as CSV.

    Args:
        path: a local path or a URI.
        check: is given the names of the columns before the first row.

    Raises:
        OSError, BeamIOError, ArrowException, UnicodeDecodeError, csv.Error: no table.
    """
    stream = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    with stream:
        if path.endswith(".parquet"):
            table = pq.ParquetFile(pa.PythonFile(stream, "r"))
            check(table.schema_arrow.names)
            for batch in table.iter_batches():
                yield from batch.to_pylist()
            return
        reader = csv.DictReader(io.TextIOWrapper(stream, "utf-8-sig", newline=""))
        check(reader.fieldnames or ())
        yield from reader
