"""What the user said of storage, in a form that travels to every process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

# The flags of Beam's filesystems. Others say how to run, and not how to read.
_FLAGS = (
    "s3_",
    "azure_",
    "blob_service_endpoint",
    "hdfs_",
    "impersonate_service_account",
)


@dataclass(frozen=True)
class Settings:
    """How storage is reached. Processes that read do without Beam and its options.

    Attributes:
        options: Beam's options of its filesystems that were given, by name. They may
            hold credentials, and are shown nowhere.
        schemes: those of the inputs; their clients are made before files are read.
    """

    options: tuple[tuple[str, Any], ...] = field(default=(), repr=False)
    schemes: frozenset[str] = field(default=frozenset(), compare=False)

    @classmethod
    def of(cls, options: Mapping[str, Any], uris: Iterable[str] = ()) -> Settings:
        """What Beam's `options` say of storage, for inputs at `uris`."""
        given = {
            name: value
            for name, value in options.items()
            if name.startswith(_FLAGS) and value is not None
        }
        return cls(tuple(sorted(given.items())), frozenset(map(scheme_of, uris)))

    def option(self, name: str, default: Any = None) -> Any:
        """The value of one of Beam's options."""
        return dict(self.options).get(name, default)


def scheme_of(uri: str) -> str:
    """`s3` of `s3://bucket/key`; `file` of a path without a scheme."""
    scheme, separator, _ = uri.partition("://")
    return scheme if separator and scheme.isalnum() else "file"
