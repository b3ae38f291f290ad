"""What charts are drawn with: the palette and style, text, and the element around it all."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Final

LIGHT: Final = ("#0b62c4", "#c2410c", "#0f7b5f", "#7b3fb5", "#5b6178")
DARK: Final = ("#6cb0ff", "#ff9a5c", "#4fd1a5", "#c9a0ff", "#a4abc2")
"""Blue, vermilion, green, purple, grey: 4.5 to 1 and more against `SURFACES`, for any colour vision."""

SURFACES: Final = ("#ffffff", "#1b1e2a")

LETTER: Final = 7.4
BOLD: Final = 8.2
"""Pixels that a letter of 12 px takes on average, in a wide font (DejaVu Sans)."""


def _variables(colours: Sequence[str], surface: str, ink: str, soft: str, grid: str) -> str:
    named = "".join(f"--plot-{index}:{colour};" for index, colour in enumerate(colours))
    return f"{named}--plot-surface:{surface};--plot-ink:{ink};--plot-soft:{soft};--plot-grid:{grid};"


STYLE: Final = f"""
:root{{{_variables(LIGHT, SURFACES[0], "#1c2033", "#5b6178", "#e3e5ee")}}}
@media (prefers-color-scheme:dark){{
:root{{{_variables(DARK, SURFACES[1], "#eceef6", "#a4abc2", "#323749")}}}
}}
.plot{{display:block;width:100%;height:auto;font:12px system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;
font-variant-numeric:tabular-nums}}
.plot text{{fill:var(--plot-soft)}}
.plot .head{{fill:var(--plot-ink);font-weight:600;font-size:13px}}
.plot .note{{fill:var(--plot-ink);font-weight:600;paint-order:stroke;stroke:var(--plot-surface);
stroke-width:4px;stroke-linejoin:round}}
.plot .grid{{stroke:var(--plot-grid);stroke-width:1}}
.plot .base{{stroke:var(--plot-soft);stroke-width:1}}
.plot .mark{{stroke:var(--plot-ink);stroke-width:1.5;stroke-dasharray:2 3}}
.plot .limit{{stroke:var(--plot-soft);stroke-width:1.5;stroke-dasharray:6 4}}
.plot .band{{fill:var(--plot-1);opacity:.09}}
.plot .line{{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round;stroke-linecap:round}}
.plot .dashed{{stroke-dasharray:5 5}}
.plot .dot{{fill:var(--c);stroke:var(--plot-surface);stroke-width:1.5}}
.plot .hit{{fill:transparent}}
.plot .point:hover .dot{{stroke:var(--plot-ink)}}
.plot .quiet:not(:hover) .dot{{opacity:0}}
.plot .part{{fill:var(--c)}}
.plot .inside{{fill:var(--plot-surface);font-weight:600}}
.plot .here{{fill:var(--plot-ink);font-weight:600}}
{"".join(f".plot .c{index}{{--c:var(--plot-{index})}}" for index in range(len(LIGHT)))}
"""
"""For the page that has the charts in it, once."""


def write(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    """Return a text whose base line is at ``y``; its classes are ``kind``."""
    if not text:
        return ""
    classes = f' class="{kind}"' if kind else ""
    anchored = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{classes}{anchored}>{escaped(text)}</text>'


def escaped(text: str) -> str:
    """Return ``text`` for use between tags and in attributes."""
    return html.escape(text, quote=True)


def element(title: str, description: str, width: float, height: float, drawn: str, standalone: bool) -> str:
    """Return the ``<svg>`` around what was drawn; ``standalone``: as a file of its own."""
    size = f"{width:.0f} {math.ceil(height):.0f}"
    outside = ' xmlns="http://www.w3.org/2000/svg"' if standalone else ""
    style = f"<style>{STYLE}</style>" if standalone else ""
    return (
        f'<svg class="plot" viewBox="0 0 {size}" role="img"{outside}><title>{escaped(title)}</title>'
        f"<desc>{escaped(description)}</desc>{style}{drawn}</svg>"
    )
