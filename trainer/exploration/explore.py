"""Look at a data set before training on it."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainer.data import dataset
from trainer.data.dataset import DatasetError, Naming
from trainer.exploration.concerns import Concern, Leak, concerns, leaks
from trainer.exploration.duplicates import Duplicates, duplicates
from trainer.exploration.shortcuts import Shortcut, shortcuts
from trainer.exploration.survey import SMALL, Survey, survey


@dataclass(frozen=True)
class Exploration:
    """All that was found out about a data set.

    Attributes:
        unlike_class: float64, (files,), how far, root mean square, a picture is from
            the mean of its class; NaN where unreadable or without a class.
    """

    survey: Survey
    duplicates: Duplicates
    leaks: list[Leak]
    shortcuts: list[Shortcut]
    concerns: list[Concern]
    unlike_class: np.ndarray[tuple[int], np.dtype[np.float64]]


def explore(
    data: Path,
    naming: Naming,
    advance: Callable[[int, int], None] = lambda count, total: None,
) -> Exploration:
    """Read every file of `data` and say what is in it.

    Data that training refuses is reported on, not refused.

    Args:
        data: a folder or a table, see `dataset.listed`.
        naming: what file names say.
        advance: is told how many more files were read, and of how many.

    Raises:
        DatasetError: there are no files, or the table cannot be understood.
    """
    listing = dataset.listed(data, naming)
    total = len(listing.files)
    if not total:
        raise DatasetError(
            f"{data} has no files; expected is a folder with a folder for each class, "
            "or a table in CSV with the columns path and label"
        )
    seen = survey(listing, lambda count: advance(count, total))
    same = duplicates(seen)
    leaked, clues = leaks(seen), shortcuts(seen)
    return Exploration(
        survey=seen,
        duplicates=same,
        leaks=leaked,
        shortcuts=clues,
        concerns=concerns(seen, same, leaked, clues),
        unlike_class=_unlike_class(seen),
    )


def _unlike_class(seen: Survey) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    found = np.full(len(seen.measured), np.nan)
    step = len(next(iter(seen.averages.values())).mean) // SMALL if seen.averages else 1
    for name, average in seen.averages.items():
        mean = average.mean.reshape(SMALL, step, SMALL, step).mean(axis=(1, 3))
        for row in np.flatnonzero(seen.of(name)):
            distance = float(np.sqrt(((seen.small[row] - mean) ** 2).mean()))
            # Of several classes the one that it is most like.
            found[row] = np.fmin(found[row], distance)
    return found


def write_tables(found: Exploration, output: Path) -> None:
    """`files.csv`, `pairs.csv` and `summary.json` in the folder `output`."""
    rows = [_row(found, row) for row in range(len(found.survey.measured))]
    _write_csv(output / "files.csv", rows)
    pairs = [
        {
            "kind": pair.kind,
            "path": found.survey.name(pair.first),
            "other": found.survey.name(pair.second),
            "distance": pair.distance,
            "crosses": "|".join(pair.crosses),
        }
        for pair in found.duplicates.pairs
    ]
    _write_csv(
        output / "pairs.csv", pairs, ["kind", "path", "other", "distance", "crosses"]
    )
    text = json.dumps(summary(found), indent=2)
    (output / "summary.json").write_text(text + "\n", "utf-8")


def _write_csv(
    path: Path, rows: list[dict[str, Any]], header: list[str] | None = None
) -> None:
    # A file name need not be UTF-8: its bytes are written as they are.
    with path.open(
        "w", newline="", encoding="utf-8", errors="surrogateescape"
    ) as stream:
        writer = csv.DictWriter(stream, header or list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _row(found: Exploration, row: int) -> dict[str, Any]:
    seen, same = found.survey, found.duplicates
    file, facts = seen.listing.files[row], seen.measured[row]
    nearest, first = int(same.nearest[row]), int(same.same_as[row])
    columns = seen.columns(row)
    return {
        "path": seen.name(row),
        "class": "|".join(file.labels),
        "patient": file.patient,
        "patient_known": file.patient_known,
        "split": file.part,
        "width": facts.width,
        "height": facts.height,
        "bits": facts.bits,
        "channels": facts.channels,
        "format": facts.format,
        "bytes": facts.file_bytes or None,
        "mean": _rounded(facts.mean),
        "std": _rounded(facts.std),
        "sharpness": _rounded(facts.sharpness),
        "unlike_class": _rounded(float(found.unlike_class[row])),
        "reason": facts.reason,
        "detail": facts.detail,
        "flags": "|".join(facts.flags),
        "duplicate_of": seen.name(first) if first >= 0 else "",
        "nearest": seen.name(nearest) if nearest >= 0 else "",
        "distance": int(same.distance[row]) if nearest >= 0 else "",
        **{name: columns.get(name, "") for name in dataset.COLUMNS},
    }


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 3)


def summary(found: Exploration) -> dict[str, Any]:
    """The figures of the page, for programs."""
    seen, same = found.survey, found.duplicates
    readable = [m for m in seen.measured if not m.reason]
    return {
        "files": len(seen.measured),
        "readable": len(readable),
        "patients": len(np.unique(seen.patients[seen.readable])),
        "classes": {name: _class(seen, name) for name in seen.classes},
        "reasons": dict(Counter(m.reason for m in seen.measured if m.reason)),
        "flags": dict(Counter(flag for m in readable for flag in m.flags)),
        "formats": dict(
            Counter(f"{m.format}, {m.bits} bits, {m.channels}" for m in readable)
        ),
        "sizes": _quantiles(seen),
        "pairs": {
            kind: {
                "all": len(same.of(kind)),
                **{
                    f"across_{way}s": sum(way in p.crosses for p in same.of(kind))
                    for way in ("split", "label", "patient")
                },
            }
            for kind in ("file", "picture", "near")
        },
        "patients_in_two_splits": sum(leak.across == "split" for leak in found.leaks),
        "patients_with_two_labels": sum(leak.across == "label" for leak in found.leaks),
        "shortcuts": [asdict(clue) for clue in found.shortcuts],
        "warnings": [asdict(concern) for concern in found.concerns],
    }


def _class(seen: Survey, name: str) -> dict[str, Any]:
    rows = seen.of(name)
    parts = {
        part or "not_divided": int((rows & (seen.parts == part)).sum())
        for part in np.unique(seen.parts[rows]).tolist()
    }
    return {
        "images": int(rows.sum()),
        "patients": len(np.unique(seen.patients[rows])),
        "images_by_split": parts,
    }


def _quantiles(seen: Survey) -> dict[str, list[float]]:
    """Least, quartiles and greatest of width, height and their ratio."""
    sizes = [(m.width or 1, m.height or 1) for m in seen.measured if not m.reason]
    if not sizes:
        return {}
    width, height = np.array(sizes, np.float64).T
    values = {"width": width, "height": height, "width_over_height": width / height}
    return {
        name: [round(float(q), 3) for q in np.percentile(v, [0, 25, 50, 75, 100])]
        for name, v in values.items()
    }
