"""One file → its model input, or the row that says why there is none."""

from __future__ import annotations

import dataclasses
import os
import stat
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import BinaryIO
from urllib.parse import unquote_to_bytes

from blake3 import blake3

from beam_pipeline import images
from beam_pipeline.contents import Contents
from beam_pipeline.errors import Failure, NotScored, Unreadable
from beam_pipeline.images import Asked, Header, Limits, eligibility
from beam_pipeline.images.eligibility import Rules
from beam_pipeline.manifest import Preparation
from beam_pipeline.pseudonyms import KEYWORDS, Pseudonyms
from beam_pipeline.records import Metadata, Outcome, Ready, Source

_LIMITS = Limits()


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How files are read.

    Attributes:
        preparation: of the model that they are prepared for.
        rules: which of them may be scored.
        limits: what each may cost.
        pseudonyms: what makes the keys of patients; None for none.
        contents: what earlier runs scored; None where nothing is known.
        settle_seconds: how long a file must not have changed.
    """

    preparation: Preparation
    rules: Rules
    limits: Limits = _LIMITS
    pseudonyms: Pseudonyms | None = None
    contents: Contents | None = None
    settle_seconds: float = 0.0

    def __call__(self, source: Source) -> Iterator[Ready | Outcome]:
        """What is known of a file as it becomes known; the last is final.

        The header decides first: a file that it rules out is read no further.
        """
        outcome = Outcome.of(source)
        try:
            self._require_settled(source)
            with open_source(source.uri) as stream:
                bounded = self.limits.bounded(stream)
                header = images.read_header(
                    bounded, source.uri, self._asked, self.limits
                )
                header = _described(header, source.metadata)
                outcome = self._identified(outcome, header)
                yield outcome
                flags = eligibility.require(eligibility.check(header, self.rules))
                outcome = replace(
                    outcome,
                    flags=outcome.flags + flags,
                    # What nobody changed since it was read need not be read again.
                    source_digest=source.digest,
                )
                if scored := self._scored_before(outcome):
                    yield scored
                    return
                data = self._whole(stream)
            digest = f"blake3:{blake3(data).hexdigest()}"
            outcome = replace(outcome, source_digest=digest)
            yield outcome
            yield self._scored_before(outcome) or self._prepared(outcome, header, data)
        except NotScored as error:
            yield outcome.ended(error)
        except MemoryError:
            yield outcome.ended(self.limits.out_of_memory())
        except OSError as error:
            yield outcome.ended(read_failed(error))
        # A defect of ours must not cost a hospital its night; it costs this file.
        except Exception as error:
            yield outcome.ended(internal_error(error))

    def _require_settled(self, source: Source) -> None:
        if source.modified is None or not self.settle_seconds:
            return
        age = (datetime.now(UTC) - source.modified).total_seconds()
        # A clock that is far ahead must not keep a file waiting for years.
        if abs(age) < self.settle_seconds:
            raise Unreadable(
                Failure.STILL_CHANGING,
                f"it changed less than {self.settle_seconds:g} s ago; the next run "
                "tries it again",
            )

    def _scored_before(self, outcome: Outcome) -> Outcome | None:
        if self.contents is None or outcome.source_digest is None:
            return None
        try:
            return self.contents.scored(outcome)
        # Then it is scored once more, which costs time and nothing else.
        except OSError:
            return None

    @cached_property
    def _asked(self) -> Asked:
        asked = self.rules.asked
        identifiers = KEYWORDS if self.pseudonyms else frozenset()
        return replace(asked, keywords=asked.keywords | identifiers)

    def _identified(self, outcome: Outcome, header: Header) -> Outcome:
        outcome = outcome.with_header(header)
        if self.pseudonyms is None:
            return outcome
        return self.pseudonyms.identified(outcome, header)

    def _whole(self, stream: BinaryIO) -> bytes:
        # No more than there is is asked for: a buffer for the largest file that may be
        # read would count as memory of every file.
        size = stream.seek(0, os.SEEK_END)
        self.limits.check_file(size)
        stream.seek(0)
        return stream.read(size)

    def _prepared(self, outcome: Outcome, header: Header, data: bytes) -> Ready:
        preparation = self.preparation
        picture = images.decode(data, header, preparation.rendering, self.limits)
        image = images.prepare(picture.pixels, preparation, header.pixel_aspect)
        outcome = replace(
            outcome,
            flags=outcome.flags + picture.flags,
            voi=picture.voi,
            image_digest=f"blake3:{blake3(image.tobytes()).hexdigest()}",
        )
        return Ready(outcome, image)


def _described(header: Header, metadata: Metadata | None) -> Header:
    """`header` with what somebody else knows of a file that cannot say it."""
    if header.format == "DICOM" or metadata is None:
        return header
    known = {
        name: value
        for name, value in dataclasses.asdict(metadata).items()
        if value is not None
    }
    identifiers = {
        "PatientID": known.pop("patient_id", None),
        "AccessionNumber": known.pop("accession_number", None),
    }
    stated = {keyword: (value,) for keyword, value in identifiers.items() if value}
    return replace(header, **known, attributes={**header.attributes, **stated})


def open_source(uri: str) -> BinaryIO:
    """The bytes of `uri` as a seekable stream; never decompressed by its name."""
    if uri.startswith("file://"):
        return _open_local(unquote_to_bytes(uri.removeprefix("file://")))
    if "://" not in uri:
        return _open_local(os.fsencode(uri))
    # Here, because a process that reads local files does without Beam.
    from apache_beam.io.filesystem import CompressionTypes
    from apache_beam.io.filesystems import FileSystems

    stream: BinaryIO = FileSystems.open(
        uri, compression_type=CompressionTypes.UNCOMPRESSED
    )
    return stream


def _open_local(path: bytes) -> BinaryIO:
    # Opening a FIFO would wait for somebody to write to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kinds = {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
        kind = kinds.get(stat.S_IFMT(mode), "device")
        raise Unreadable(Failure.READ_FAILED, f"it is a {kind}, and no file")
    return os.fdopen(descriptor, "rb")


def read_failed(error: OSError) -> Unreadable:
    """READ_FAILED: what the system says, without the path."""
    # The message of an OSError holds the path, which may hold a name.
    known = os.strerror(error.errno) if error.errno else type(error).__name__
    return Unreadable(Failure.READ_FAILED, known)


def internal_error(error: Exception) -> Unreadable:
    """INTERNAL_ERROR: where it happened, and nothing of what the file holds."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{os.path.basename(place.filename)}:{place.lineno}"
    detail = f"{type(error).__name__} in {where}; please report it"
    return Unreadable(Failure.INTERNAL_ERROR, detail)
