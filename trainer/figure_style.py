"""How figures look: on white for pages, on black around radiographs.

Colours are those of Okabe & Ito (2008), which the colour-blind tell apart; where lines
meet they differ in dashes too, so that a grey print can be read.
"""

from __future__ import annotations

from typing import Any

import matplotlib as mpl

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#777777"
_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
_BOTH: Any = {
    "font.size": 10,
    # What stands between two dollars in a name is no formula.
    "text.parse_math": False,
}
_LIGHT: Any = {
    **_BOTH,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "legend.framealpha": 0.9,
    "legend.edgecolor": "none",
    "legend.fontsize": 9,
    "lines.linewidth": 1.9,
    # Not savefig.dpi: a figure may be saved where this style is no longer in force.
    "figure.dpi": 160,
}
_DARK: Any = {
    **_BOTH,
    "text.color": "#EEEEEE",
    "axes.edgecolor": "#888888",
    "axes.labelcolor": "#DDDDDD",
    "xtick.color": "#DDDDDD",
    "ytick.color": "#DDDDDD",
    "figure.facecolor": "black",
    "axes.facecolor": "black",
}
# Decorators of functions that draw.
light = mpl.rc_context(_LIGHT)
dark = mpl.rc_context(_DARK)


def look(index: int) -> dict[str, Any]:
    """Colour and dashes of the line of this number."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "linestyle": _DASHES[index % len(_DASHES)],
    }
