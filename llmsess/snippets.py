"""A piece of a matching text, short enough for a line or two, with the matches marked.

FTS5's own snippet() counts tokens and returns a word of a megabyte whole; this one counts characters.
"""

from __future__ import annotations

import re

from llmsess.texts import UNSEEN, without_controls

SNIPPET_CHARACTERS = 300  # of a snippet, marks included
BEFORE_CHARACTERS = 75  # shown before the first match
OPEN, CLOSE = "<mark>", "</mark>"
START, END = "\x02", "\x03"  # what the index puts around a match: control characters, which no shown text has
SHORT = SNIPPET_CHARACTERS - len(OPEN) - len(CLOSE)
MARKS = 5  # so few are cut without counting them one by one
_ODD = re.compile(f"[\x00\x01\x04-\x1f{UNSEEN}]")
_PIECES = re.compile(f"([{START}{END}])")


def snippet(marked: str) -> str:
    """Return at most 300 characters of a text around its first match, on one line, matches in <mark> and </mark>."""
    first = max(marked.find(START), 0)
    begin = max(0, first - BEFORE_CHARACTERS)
    window = marked[begin : first + 2 * SNIPPET_CHARACTERS]
    if len(window) <= SHORT and not _ODD.search(window):  # most texts are so: nothing to clean, nothing to cut
        whole = window.replace(START, OPEN).replace(END, CLOSE)
        if len(whole) < SNIPPET_CHARACTERS - 1:
            return f"{'…' if begin else ''}{whole}"
    marks = window.count(START)
    if marks <= MARKS and not _ODD.search(window):
        return _cut(window, marks, "…" if begin else "", more=begin + len(window) < len(marked))
    written = _Writer("…" if begin else "")
    inside = False
    for piece in _PIECES.split(window):
        if piece in (START, END):
            inside = piece == START
        elif piece and not written.add(re.sub(r"\s", " ", without_controls(piece)), inside):
            break
    return written.end(more=begin + len(window) < len(marked))


def _cut(window: str, marks: int, before: str, *, more: bool) -> str:
    """Return a harmless window cut to 300 characters, its few marks counted in full."""
    kept = window[: SNIPPET_CHARACTERS - len(before) - 1 - marks * (len(OPEN) + len(CLOSE))]
    if kept.rfind(START) > kept.rfind(END):  # the cut went through a match
        kept += END
    after = "…" if more or len(kept) < len(window) else ""
    return f"{before}{kept.replace(START, OPEN).replace(END, CLOSE)}{after}"


class _Writer:
    """Collects pieces until 300 characters, an ellipsis at a cut included."""

    def __init__(self, text: str) -> None:
        self.text, self.cut = text, False

    def add(self, piece: str, inside: bool) -> bool:
        """Add what fits of a piece; return whether all of it did."""
        room = SNIPPET_CHARACTERS - 1 - len(self.text) - (len(OPEN) + len(CLOSE) if inside else 0)
        shown = piece[: max(0, room)]
        if shown:
            self.text += f"{OPEN}{shown}{CLOSE}" if inside else shown
        self.cut = len(shown) < len(piece)
        return not self.cut

    def end(self, *, more: bool) -> str:
        return self.text + ("…" if self.cut or more else "")
