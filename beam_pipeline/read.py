"""One file → its model input, or the row that says why there is none."""

from __future__ import annotations

import dataclasses
import os
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import BinaryIO

from blake3 import blake3

from beam_pipeline import images, storage
from beam_pipeline.contents import Contents
from beam_pipeline.errors import Failure, NotScored, Unreadable
from beam_pipeline.images import Asked, Header, Limits, eligibility
from beam_pipeline.images.eligibility import Rules
from beam_pipeline.manifest import Preparation
from beam_pipeline.pseudonyms import KEYWORDS, Pseudonyms
from beam_pipeline.records import Metadata, Outcome, Ready, Source
from beam_pipeline.storage import Settings

_LIMITS = Limits()
_STORAGE = Settings()


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
        storage: how the places are reached where files are.
    """

    preparation: Preparation
    rules: Rules
    limits: Limits = _LIMITS
    pseudonyms: Pseudonyms | None = None
    contents: Contents | None = None
    settle_seconds: float = 0.0
    storage: Settings = _STORAGE

    def __call__(self, source: Source) -> Iterator[Ready | Outcome]:
        """What is known of a file as it becomes known; the last is final.

        The header decides first: a file that it rules out is read no further.
        """
        outcome = Outcome.of(source)
        try:
            self._require_settled(source)
            with storage.open(source, self.storage) as stream:
                outcome = _measured(outcome, stream)
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
                _require_size(outcome.source_bytes, len(data))
            digest = f"blake3:{blake3(data).hexdigest()}"
            outcome = replace(outcome, source_digest=digest)
            if scored := self._scored_before(outcome):
                yield scored
                return
            yield outcome
            yield self._prepared(outcome, header, data)
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
            return self.contents.scored(outcome, self.storage)
        # Then it is scored once more, which costs time and nothing else.
        except (OSError, Unreadable):
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
        seen = images.model_input(data, header, self.preparation, self.limits)
        outcome = replace(
            outcome,
            flags=outcome.flags + seen.picture.flags,
            voi=seen.picture.voi,
            image_digest=f"blake3:{blake3(seen.image.tobytes()).hexdigest()}",
        )
        return Ready(outcome, seen.image)


def _measured(outcome: Outcome, stream: BinaryIO) -> Outcome:
    """`outcome` with the file's size, which must be the listed one."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    _require_size(outcome.source_bytes, size)
    return replace(outcome, source_bytes=size)


def _require_size(before: int | None, now: int) -> None:
    if before not in (None, now):
        detail = f"it had {before:,} bytes, and then {now:,}"
        raise Unreadable(Failure.STILL_CHANGING, detail)


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
