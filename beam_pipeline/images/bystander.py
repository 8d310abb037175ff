"""Files that stand in every export and are no studies: known by content or by name."""

from __future__ import annotations

import posixpath

from beam_pipeline.errors import Rejected, Rejection

# Content that may be a study's, in a wrapper that this job does not open.
_ARCHIVES = (
    (b"PK\x03\x04", "ZIP"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    (b"(\xb5/\xfd", "Zstandard"),
    (b"Rar!\x1a\x07", "RAR"),
)
_OTHERS = (
    (b"\x00\x05\x16\x07", "AppleDouble file, which macOS writes beside another"),
    (b"\x00\x00\x00\x01Bud1", "folder view of macOS"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "OLE2 file, such as Thumbs.db"),
    (b"%PDF-", "PDF document"),
)
# What DICOM media and desktops lay beside the images, in plain text or in nothing.
_NAMES = frozenset(
    {
        "version",
        "autorun.inf",
        "desktop.ini",
        "lockfile",
        "readme",
        "readme.txt",
        "thumbs.db",
    }
)
_TAR = b"ustar"
_TAR_POSITION = 257


def reject(head: bytes, uri: str) -> None:
    """Raise `Rejected` for a file that is known to be no study.

    Args:
        head: its first 512 bytes, or none; a DICOM, PNG or JPEG file is not asked.
        uri: where it is; only its last part counts.

    Raises:
        Rejected: ARCHIVE or NON_IMAGE.
    """
    if head[_TAR_POSITION:].startswith(_TAR):
        raise Rejected(Rejection.ARCHIVE, "a tar archive; export what is in it")
    for magic, kind in _ARCHIVES:
        if head.startswith(magic):
            raise Rejected(Rejection.ARCHIVE, f"a {kind} archive; export what is in it")
    for magic, kind in _OTHERS:
        if head.startswith(magic):
            raise Rejected(Rejection.NON_IMAGE, f"a {kind}")
    name = posixpath.basename(uri).lower()
    if name in _NAMES:
        raise Rejected(Rejection.NON_IMAGE, "a file that media and desktops lay there")
    if name.startswith("."):
        raise Rejected(Rejection.NON_IMAGE, "a hidden file")
