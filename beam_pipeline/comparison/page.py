"""A comparison as a page of text, for a terminal or a log.

Paths stay out of it: they may hold a patient's name, and logs are read by many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from beam_pipeline.comparison.agreement import Decisions, Differences, Drift, Share
from beam_pipeline.comparison.figures import Comparison, Mover, Side, Studies

Lines = list[str | Table]

_MOST = 20
# Siddiqi 2006, Credit Risk Scorecards.
_PSI = ((0.1, "little change"), (0.25, "some change"), (float("inf"), "large change"))


def show(found: Comparison) -> None:
    """Print all of it."""
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(_sides(found.a, found.b))
    for title, lines in _sections(found):
        console.print(f"\n{title}", style="bold")
        for line in lines:
            console.print(Padding(line, (0, 0, 0, 2), expand=False))


def _sections(found: Comparison) -> Iterator[tuple[str, Lines]]:
    yield "Files in both", _matched(found)
    if found.transitions:
        yield "Another status or reason", _transitions(found)
    if found.differences:
        scored = f"of {found.differences.count:,} files with a score in both"
        yield f"Decisions {scored}", _decisions(found.decisions)
        yield f"Scores, B − A, {scored}", _differences(found.differences)
    if found.drift:
        yield "Scores of all files", _drift(found.drift)
    yield "Studies", _studies(found.studies)
    if found.movers:
        yield "Scores that differ most", _movers(found.movers)


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


_ORIGIN: dict[str, Callable[[Side], str]] = {
    "run": lambda side: side.run,
    "finished": lambda side: f"{side.finished[:16].replace('T', ' ')} UTC",
    "took": lambda side: _speed(side),
    "model": lambda side: f"{side.model.get('name')} {side.model.get('version')}",
    "  digest": lambda side: _short(str(side.model.get("digest"))),
    "  threshold": lambda side: _threshold(side.model),
    "calibration": lambda side: _calibration(side.calibration),
    "pseudonyms": lambda side: _pseudonyms(side.pseudonyms),
    "files": lambda side: f"{side.files:,}",
    "  carried along": lambda side: _part(side.carried, side.files),
}
_RESULT: dict[str, Callable[[Side], str]] = {
    "positive files": lambda side: _interval(side.positive),
    "score, median": lambda side: _quantile(side.quantiles, 3),
    "  5 % to 95 %": lambda side: _range(side.quantiles),
}


def _sides(a: Side, b: Side) -> Table:
    table = _table("", "A", "B")
    for name, of in _ORIGIN.items():
        table.add_row(name, of(a), of(b))
    for status in a.reasons:
        counts = [side.reasons[status] for side in (a, b)]
        totals = [sum(each.values()) for each in counts]
        _counted(table, f"  {status}", totals, a, b)
        for reason in _names(*counts):
            both = [each.get(reason, 0) for each in counts]
            _counted(table, f"    {reason}", both, a, b)
    for name, of in _RESULT.items():
        table.add_row(name, of(a), of(b))
    for flag in _names(a.flags, b.flags):
        both = [side.flags.get(flag, 0) for side in (a, b)]
        _counted(table, f"flag {flag}", both, a, b)
    return table


def _counted(table: Table, name: str, counts: list[int], a: Side, b: Side) -> None:
    sides = zip(counts, (a, b), strict=True)
    table.add_row(name, *(_part(count, side.files) for count, side in sides))


def _names(a: Mapping[str, int], b: Mapping[str, int]) -> list[str]:
    """The names in either, the most frequent first."""
    names = {*a, *b} - {""}
    return sorted(names, key=lambda name: (-a.get(name, 0) - b.get(name, 0), name))


def _short(digest: str) -> str:
    return digest[: len("sha256:") + 12]


def _speed(side: Side) -> str:
    read = side.files - side.carried
    rate = f", {read / side.seconds:,.1f} files/s" if side.seconds and read else ""
    return f"{timedelta(seconds=round(side.seconds))}{rate}"


def _threshold(model: Mapping[str, Any]) -> str:
    values = ", ".join(f"{value:.4g}" for value in model.get("thresholds", ()))
    return f"{values} ({model.get('operating_point') or '--threshold'})"


def _calibration(site: Mapping[str, Any] | None) -> str:
    if site is None:
        return "the model's"
    return f"{site['site']}, {site['created'][:10]}, {_short(site['digest'])}"


def _pseudonyms(pseudonyms: Mapping[str, Any] | None) -> str:
    if pseudonyms is None:
        return "none"
    what = "de-identified" if pseudonyms["deidentify"] else "keys of patients"
    return f"{what}, key {pseudonyms['key_id']}"


def _part(count: int, of: int) -> str:
    return f"{count:,} ({count / of:.1%})" if of and count else f"{count:,}"


def _interval(share: Share) -> str:
    if share.value is None or share.low is None or share.high is None:
        return "of none"
    interval = f"{100 * share.low:.2f}–{100 * share.high:.2f}%"
    return f"{share.count:,}, {share.value:.2%} ({interval})"


def _quantile(quantiles: list[float] | None, index: int) -> str:
    return f"{quantiles[index]:.4f}" if quantiles else "none"


def _range(quantiles: list[float] | None) -> str:
    return f"{_quantile(quantiles, 1)} to {_quantile(quantiles, 5)}"


def _matched(found: Comparison) -> Lines:
    keys = ", ".join(f"{n:,} by {key}" for key, n in found.by_key.items() if n)
    lines: Lines = [
        f"{found.matched:,} in both{keys and f', {keys}'}",
        f"{found.only_a:,} in A only, {found.only_b:,} in B only",
    ]
    if found.replaced:
        lines.append(f"{found.replaced:,} paths are in both with other content")
    if _key(found.a) != _key(found.b):
        lines.append(
            "not de-identified with the same key: no row of one is known in the other"
        )
    return lines


def _key(side: Side) -> str | None:
    """The key that identifiers are replaced with; None where they are not."""
    pseudonyms = side.pseudonyms or {}
    return pseudonyms.get("key_id") if pseudonyms.get("deidentify") else None


def _transitions(found: Comparison) -> Lines:
    table = _table("A", "B", "files")
    table.columns[-1].justify = "right"
    for row in found.transitions[:_MOST]:
        a, b = (row.status_a, row.reason_a), (row.status_b, row.reason_b)
        words = (" ".join(filter(None, each)) for each in (a, b))
        table.add_row(*words, f"{row.files:,}")
    if rest := found.transitions[_MOST:]:
        files = sum(row.files for row in rest)
        table.add_row(f"{len(rest)} other changes", "", f"{files:,}")
    return [f"another status: {_interval(found.status_changed)}", table]


def _decisions(found: Decisions) -> Lines:
    table = _table("", "positive in B", "negative in B")
    table.add_row("positive in A", f"{found.both_positive:,}", f"{found.lost:,}")
    table.add_row("negative in A", f"{found.gained:,}", f"{found.both_negative:,}")
    return [
        table,
        f"changed: {_interval(found.changed)}",
        "as many to positive as to negative? McNemar's exact test, p "
        f"{_p_value(found.p_value)}",
    ]


def _p_value(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"= {value:.4f}"


def _differences(found: Differences) -> Lines:
    if found.equal == found.count:
        return ["all are equal"]
    rank = "none" if found.spearman is None else f"{found.spearman:.4f}"
    lowest, low, _, median, _, high, highest = map(_signed, found.quantiles)
    return [
        f"{found.equal:,} are equal; Spearman's rank correlation {rank}",
        f"mean {_signed(found.mean)}, median {median}, mean size {found.mean_size:.4f}",
        f"lowest {lowest}, 5 % to 95 % {low} to {high}, highest {highest}",
    ]


def _signed(value: float) -> str:
    # No minus before a zero.
    return f"{round(value, 4) + 0.0:+.4f}"


def _drift(found: Drift) -> Lines:
    word = next(word for limit, word in _PSI if found.psi < limit)
    return [
        f"population stability index {found.psi:.3g}, {word}; by chance up to "
        f"{found.chance:.3g}"
    ]


def _studies(found: Studies) -> Lines:
    lines: Lines = [
        f"{found.matched:,} in both, {found.only_a:,} in A only, "
        f"{found.only_b:,} in B only",
        f"positive in A: {_interval(found.positive_a)}",
        f"positive in B: {_interval(found.positive_b)}",
    ]
    if found.scored_only_a or found.scored_only_b:
        lines.append(
            f"of those in both, with a score in A only {found.scored_only_a:,}, in B "
            f"only {found.scored_only_b:,}"
        )
    if found.differences:
        lines += [*_decisions(found.decisions), *_differences(found.differences)]
    return lines


def _movers(movers: list[Mover]) -> Lines:
    table = _table("SOP Instance UID or digest", "A", "B", "B − A", "decision")
    for mover in movers:
        name = mover.sop_instance_uid or mover.source_digest or ""
        difference = _signed(mover.score_b - mover.score_a)
        signs = [_sign(mover.positive_a), _sign(mover.positive_b)]
        scores = [f"{mover.score_a:.4f}", f"{mover.score_b:.4f}", difference]
        table.add_row(name, *scores, " → ".join(dict.fromkeys(signs)))
    return [table]


def _sign(positive: bool) -> str:
    return "pos" if positive else "neg"
