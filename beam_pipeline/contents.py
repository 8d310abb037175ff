"""What the model said of contents, by their digest.

A file under a new name, or under new rules, needs no second look. Contents lie in small
files, by the first digits of the digest. Who reads a file opens the one that its digest
can be in, so that nothing is held for all contents at once.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, replace
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_pipeline import storage
from beam_pipeline.errors import PICTURE_FLAGS
from beam_pipeline.records import Outcome, Source
from beam_pipeline.storage import Settings

COLUMNS = [
    "source_digest",
    "run_id",
    "carried_from",
    "scored_at",
    "flags",
    "image_digest",
    "voi",
    "probabilities",
    "logits",
    "spread",
    "outlier_score",
    "calibration",
]
_FILES_IN_MEMORY = 16
_STORAGE = Settings()
# Digests are written as `blake3:` and hexadecimal digits.
_FIRST_DIGIT = len("blake3:")
_DIGITS = 8


@dataclass(frozen=True)
class Contents:
    """The contents that were scored before.

    Attributes:
        folder: where they are written.
        files: over how many files they are spread.
    """

    folder: str
    files: int

    def path(self, number: int) -> str:
        """The file of that number."""
        return f"{self.folder}/contents-{number:05d}.parquet"

    def number(self, digest: str) -> int:
        """The number of the file that the content with `digest` is in."""
        return int(digest[_FIRST_DIGIT : _FIRST_DIGIT + _DIGITS], 16) % self.files

    def scored(self, outcome: Outcome, settings: Settings = _STORAGE) -> Outcome | None:
        """`outcome` with what the model said of its content; None where it never did.

        What the header tells is that of `outcome`; what the pixels told is known.

        Raises:
            OSError: the file that it can be in cannot be read.
            Unreadable: the same, in a bucket.
        """
        digest = outcome.source_digest or ""
        table = _contents(self.path(self.number(digest)), settings)
        row = _row_of(digest, table)
        if row < 0:
            return None
        [found] = table.slice(row, 1).to_pylist()
        of_pixels = (flag for flag in found["flags"] if flag in PICTURE_FLAGS)
        return replace(
            outcome,
            flags=tuple(dict.fromkeys((*outcome.flags, *of_pixels))),
            image_digest=found["image_digest"],
            voi=found["voi"],
            probabilities=tuple(found["probabilities"]),
            logits=tuple(found["logits"]),
            spread=found["spread"],
            outlier_score=found["outlier_score"],
            calibration=found["calibration"],
            carried_from=found["carried_from"] or found["run_id"],
            scored_at=found["scored_at"],
        )


@lru_cache(_FILES_IN_MEMORY)
def _contents(path: str, settings: Settings) -> pa.Table:
    with storage.open(Source(path), settings) as stream:
        # `read_table` would import pandas: 40 MB, in every process.
        file = pq.ParquetFile(io.BytesIO(stream.read()))
    return file.read(use_threads=False)


def _row_of(digest: str, table: pa.Table) -> int:
    """Where the content with `digest` is in a table of them; -1 where it is not."""
    text = digest.encode()
    # `pa.scalar` would import pandas, too.
    ends = pa.py_buffer(struct.pack("=2i", 0, len(text)))
    [wanted] = pa.StringArray.from_buffers(1, ends, pa.py_buffer(text))
    return int(pc.index(table["source_digest"], wanted).as_py())
