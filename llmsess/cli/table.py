"""Tables for people: aligned columns that fit the terminal, wide characters counted as wide."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from llmsess.texts import without_controls

FLEXIBLE_WIDTH = 30  # columns of text that the flexible column keeps before others are left out
_FIGURE = re.compile(r"(≥?\$)?[\d.,]*|unpriced")


def fitting(
    headings: dict[str, str], rows: Sequence[dict[str, str]], width: int, flexible: str, spare: Sequence[str]
) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Return headings and rows that fit into a width.

    Columns of `spare` are left out, in that order, until the flexible one has room; then its texts are cut.
    """
    import wcwidth  # here: only a table needs it

    wide = {
        key: max([len(heading), *(wcwidth.width(row[key]) for row in rows)])
        for key, heading in headings.items()
        if key != flexible
    }
    kept = dict(headings)
    for key in spare:
        if _room(kept, wide, width) >= FLEXIBLE_WIDTH:
            break
        kept.pop(key, None)
    room = max(_room(kept, wide, width), FLEXIBLE_WIDTH // 2)
    return kept, [row | {flexible: cut(row[flexible], room)} for row in rows]


def _room(kept: dict[str, str], wide: dict[str, int], width: int) -> int:
    return width - sum(wide[key] + 2 for key in kept if key in wide)


def cut(text: str, width: int) -> str:
    """Return a text cut to a width, at least a few columns of it, with an ellipsis."""
    import wcwidth

    width = max(width, FLEXIBLE_WIDTH // 2)

    return text if wcwidth.width(text) <= width else f"{wcwidth.clip(text, 0, width - 1).rstrip()}…"


def beside(headings: Sequence[str], texts: Sequence[str], width: int) -> str:
    """Return texts beside each other under their headings, their lines cut between words to a share of the width."""
    import wcwidth

    room = max((width - 3 * (len(texts) - 1)) // len(texts), 10)
    columns = [
        [
            part
            for line in (heading, *without_controls(said).split("\n"))
            for part in wcwidth.wrap(line, room, drop_whitespace=not line[:1].isspace()) or [""]
        ]
        for heading, said in zip(headings, texts, strict=True)
    ]
    rows = itertools.zip_longest(*columns, fillvalue="")
    return "\n".join(" │ ".join(wcwidth.ljust(part, room) for part in row).rstrip() for row in rows)


def text(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """Return rows under their headings, figures to the right; the headings may be styled."""
    import tabulate  # here: it takes longer to import than everything else

    tabulate.MIN_PADDING = 0  # else every heading takes two columns more
    sides = ["right" if all(_FIGURE.fullmatch(row[i]) for row in cells) else "left" for i in range(len(headings))]
    return tabulate.tabulate(cells, headings, tablefmt="simple", disable_numparse=True, colalign=sides)
