"""Why storage did not give what was asked of it, in words that name no path."""

from __future__ import annotations

import re

# A code such as SlowDown is a server's own word, and not one of a patient.
_CODE = re.compile(r"[A-Za-z0-9_.]{1,40}")


class Fault(OSError):
    """Storage refused, or did not answer, however often it was asked."""


class MissingPackage(ValueError):
    """The client of a scheme is not installed."""

    def __init__(self, scheme: str, extra: str) -> None:
        super().__init__(
            f"{scheme}:// needs a package that is not installed: "
            f"pip install 'radiograph-scorer[{extra}]'"
        )


class Gone(Fault):
    """There is nothing at that place."""

    def __init__(self, what: str = "it is no longer there") -> None:
        super().__init__(what)


class Denied(Fault):
    """Whoever runs the job may not read it."""

    def __init__(self) -> None:
        super().__init__("access denied")


class Changed(Fault):
    """It is not what was listed."""

    def __init__(self) -> None:
        super().__init__("it was replaced after it was listed")


def unanswered(status: int | None, code: str) -> Fault:
    """What is left when every attempt failed."""
    named = code if _CODE.fullmatch(code) else "no code"
    answer = named if status is None else f"{status} {named}"
    return Fault(f"the storage did not deliver it ({answer})")
