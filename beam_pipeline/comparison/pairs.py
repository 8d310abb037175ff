"""Rows of two runs side by side: what both say, where they differ, whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_pipeline.comparison.agreement import Flags, Scores
from beam_pipeline.comparison.matching import Rows

# What tells a person, or the archive, which file it is.
NAMES = ("source_digest", "study_instance_uid", "sop_instance_uid")


@dataclass(frozen=True)
class Pairs:
    """Rows of two tables, the first of A with the first of B.

    Attributes:
        a: a table.
        b: another.
        in_a: (pairs,), the row of each pair in `a`.
        in_b: (pairs,), the row of each in `b`.
        columns: of both, that are compared; `score` and `positive` are among them.
    """

    a: pa.Table
    b: pa.Table
    in_a: Rows
    in_b: Rows
    columns: Sequence[str]

    @cached_property
    def table(self) -> pa.Table:
        """`COLUMN_a` and `COLUMN_b` of each of `columns`."""
        return self._beside(self.columns, slice(None))

    def __len__(self) -> int:
        return len(self.in_a)

    def positive(self) -> tuple[Flags, Flags]:
        """The decisions in A and B, of pairs with two scores."""
        found = self._scored_twice
        return found["positive_a"].to_numpy(), found["positive_b"].to_numpy()

    def scores(self) -> tuple[Scores, Scores]:
        """The scores in A and B, of pairs with two scores."""
        found = self._scored_twice
        return found["score_a"].to_numpy(), found["score_b"].to_numpy()

    def scored(self) -> tuple[int, int]:
        """How many pairs have a score in A, and in B."""
        a, b = (len(self) - self.table[f"score_{side}"].null_count for side in "ab")
        return a, b

    def differ(self, column: str) -> Flags:
        """(pairs,), whether both have a value and not the same."""
        differ = pc.not_equal(self.table[f"{column}_a"], self.table[f"{column}_b"])
        return np.asarray(differ.fill_null(False).to_numpy())

    def apart(self) -> Scores:
        """(pairs,), how far scores are apart; 0 where one is missing."""
        difference = pc.subtract(self.table["score_b"], self.table["score_a"])
        return np.asarray(pc.abs(difference).fill_null(0).to_numpy())

    def named(self, rows: Rows) -> pa.Table:
        """Some pairs, with the paths and `NAMES` of their files."""
        found = self._beside(["source_uri"], rows)
        for name in NAMES:
            both = (
                self.a[name].take(self.in_a[rows]),
                self.b[name].take(self.in_b[rows]),
            )
            found = found.append_column(name, pc.coalesce(*both))
        compared = self.table.take(rows)
        for name in compared.column_names:
            found = found.append_column(name, compared[name])
        return found

    @cached_property
    def _scored_twice(self) -> pa.Table:
        scored = [pc.is_valid(self.table[f"score_{side}"]) for side in "ab"]
        return self.table.filter(pc.and_(*scored))

    def _beside(self, columns: Sequence[str], rows: Rows | slice) -> pa.Table:
        sides = ("a", self.a, self.in_a[rows]), ("b", self.b, self.in_b[rows])
        return pa.table(
            {
                f"{column}_{side}": table[column].take(chosen)
                for column in columns
                for side, table, chosen in sides
            }
        )
