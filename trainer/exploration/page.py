"""What was found out about a data set, as one page and its figures."""

from __future__ import annotations

from pathlib import Path

import jinja2
import numpy as np

from trainer.exploration.concerns import LEVELS
from trainer.exploration.explore import Exploration
from trainer.exploration.sections import Panel, sections
from trainer.exploration.survey import Survey


def write(found: Exploration, title: str, output: Path) -> Path:
    """`explore.html` and `figures/*.png` in the folder `output`; the page's path."""
    parts = list(sections(found))
    (output / "figures").mkdir(exist_ok=True)
    for section in parts:
        for block in section.blocks:
            if isinstance(block, Panel):
                (output / "figures" / f"{block.name}.png").write_bytes(block.png)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("trainer", "reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("explore.html").render(
        title=title,
        facts=_facts(found.survey),
        levels=LEVELS,
        concerns=found.concerns,
        sections=parts,
    )
    path = output / "explore.html"
    # A file name need not be UTF-8.
    path.write_text(page, "utf-8", errors="replace")
    return path


def _facts(seen: Survey) -> list[tuple[str, str]]:
    unread = int((~seen.readable).sum())
    return [
        (f"{len(seen.measured):,}", "files"),
        (f"{unread:,}", "unreadable"),
        (f"{len(np.unique(seen.patients[seen.readable])):,}", "patients"),
        (f"{len(seen.classes):,}", "classes"),
    ]
