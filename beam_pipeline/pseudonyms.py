"""Keyed hashes in the place of identifiers: the same in every run with the same key.

An unkeyed hash of a patient's number is undone by hashing all numbers; without the key
this one is not. The key is a file of 32 bytes or more, and goes nowhere else.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from beam_pipeline import storage
from beam_pipeline.errors import Unreadable
from beam_pipeline.images import Header
from beam_pipeline.records import Metadata, Outcome, Source
from beam_pipeline.storage import Settings

# FIPS 198-1 advises a key as long as the hash: 32 bytes for SHA-256.
_SHORTEST = 32
_STORAGE = Settings()
KEYWORDS = frozenset({"PatientID", "IssuerOfPatientID", "AccessionNumber"})


class KeyFileError(ValueError):
    """A key file that cannot be used."""


@dataclass(frozen=True)
class Pseudonyms:
    """Makes pseudonyms with the key in a file.

    The key is read where it is needed, so that it travels in no job description.

    Attributes:
        key_file: path or URI of the key, for every worker.
        deidentify: whether UIDs and paths are replaced as well.
        storage: how the place is reached where the key is.
    """

    key_file: str
    deidentify: bool = False
    storage: Settings = _STORAGE

    @property
    def key_id(self) -> str:
        """Which key it is, without telling it: 16 hexadecimal digits.

        Raises:
            KeyFileError: the file cannot be read, or its key is too short.
        """
        return self._hash("key", "")[:16]

    def identified(self, outcome: Outcome, header: Header) -> Outcome:
        """`outcome` with the keys of the patient and of the accession."""
        patient, issuer, accession = (
            "\\".join(header.attributes.get(keyword, ()))
            for keyword in ("PatientID", "IssuerOfPatientID", "AccessionNumber")
        )
        return replace(
            outcome,
            patient_key=self._hash("patient", f"{issuer}\0{patient}")
            if patient
            else None,
            accession_key=self._hash("accession", accession) if accession else None,
        )

    def uri(self, uri: str) -> str:
        """`uri` as rows have it."""
        return str(self._keyed("uri", uri)) if self.deidentify else uri

    def applied(self, outcome: Outcome) -> Outcome:
        """`outcome` without UIDs of its own, its path, and digests of its bytes.

        Who has the files could find a row by their digest.
        """
        if not self.deidentify:
            return outcome
        return replace(
            outcome,
            source_uri=self.uri(outcome.source_uri),
            source_etag=self.etag(outcome.source_etag),
            source_digest=self._keyed("digest", outcome.source_digest),
            image_digest=self._keyed("digest", outcome.image_digest),
            study_instance_uid=self._uid(outcome.study_instance_uid),
            series_instance_uid=self._uid(outcome.series_instance_uid),
            sop_instance_uid=self._uid(outcome.sop_instance_uid),
        )

    def etag(self, etag: str | None) -> str | None:
        """`etag` as rows have it: S3's is, as a rule, the MD5 of the file."""
        found: str | None = self._keyed("etag", etag) if self.deidentify else etag
        return found

    def of_metadata(self, metadata: Metadata) -> str:
        """What changes when any value in `metadata` does."""
        return self._hash("metadata", repr(metadata))[:32]

    def of_inputs(self, inputs: str) -> str:
        """A digest of what is listed: paths may hold a name."""
        return self._hash("inputs", inputs)

    def of_rules(self, rules: str) -> str:
        """A digest of rules: what they look for may be a name."""
        return self._hash("rules", rules)

    def _keyed(self, kind: str, text: Any) -> Any:
        return text and f"hmac-sha256:{self._hash(kind, text)}"

    def _uid(self, uid: str | None) -> str | None:
        """A UID of 128 bits under the root 2.25, PS3.5 B.2."""
        return uid and f"2.25.{int(self._hash('uid', uid)[:32], 16)}"

    def _hash(self, kind: str, text: str) -> str:
        message = f"{kind}\0{text}".encode("utf-8", "surrogateescape")
        key = _key(self.key_file, self.storage)
        return hmac.new(key, message, hashlib.sha256).hexdigest()


@lru_cache(maxsize=1)
def _key(key_file: str, settings: Settings) -> bytes:
    try:
        with storage.open(Source(key_file), settings) as stream:
            key = stream.read().strip()
    except Unreadable as error:
        raise KeyFileError(f"{key_file} cannot be read: {error.detail}") from error
    except OSError as error:
        raise KeyFileError(f"{key_file} cannot be read: {error.strerror}") from error
    if len(key) < _SHORTEST:
        raise KeyFileError(
            f"{key_file} holds {len(key)} bytes; a key has {_SHORTEST} or more, as of "
            "`head -c 32 /dev/urandom | base64`"
        )
    return key
