"""Markdown on a terminal: text appears as it comes, and each block is shown rendered once the next has begun.

A block is left as it came where that is surer: one taller than the screen, one whose width no program can tell, one
during which the terminal was resized, one whose rendering would lack a character of it.
"""

from __future__ import annotations

import functools
import io
import os
import re
import sys
from collections import Counter
from typing import Any

from llmsess.cli import output
from llmsess.texts import without_controls

_CLEAR = "\r\x1b[K"  # this line; each on its own: some terminals keep a screen that is cleared at once, as scrolled off
_UP = "\x1b[A"
_WORST = 2  # columns of one character
_STEP = 8  # a block is looked at again when it has grown by an eighth, not at each of a thousand lines
_SILENT = re.compile(r"^\s*(?:\d+[.)]|(?:```|~~~).*)", re.MULTILINE)  # marks of lists and of code, shown otherwise


def is_wanted() -> bool:
    """Return whether standard output is a terminal that can go back over its lines."""
    return output.is_terminal() and os.environ.get("TERM", "xterm") not in ("dumb", "unknown", "")


def _size() -> os.terminal_size:
    """Return what the terminal is, whatever COLUMNS says: only that tells where its lines are."""
    try:
        return os.get_terminal_size(sys.stdout.fileno())
    except (OSError, ValueError):
        return os.terminal_size((80, 0))  # nothing fits there, so that nothing is taken back


def rendered(text: str, columns: int) -> str:
    """Return Markdown as a terminal shows it, in lines of at most `columns`."""
    from rich.console import Console

    buffer = io.StringIO()
    plain = bool(os.environ.get("NO_COLOR"))
    console = Console(file=buffer, force_terminal=True, width=columns, no_color=plain, legacy_windows=False)
    document = _markdown()(text, hyperlinks=False, code_theme="ansi_dark")
    document.parsed = _parser().parse(text)
    console.print(document)
    lines = [line.rstrip(" ") for line in buffer.getvalue().split("\n")]
    seen = [bool(without_controls(line).strip()) for line in lines]  # code has lines of padding around it
    return "\n".join(lines[seen.index(True) : len(seen) - seen[::-1].index(True)]) if any(seen) else ""


@functools.cache
def _markdown() -> Any:
    """Return rich's renderer, with headings where they stand instead of in the middle."""
    from rich import markdown

    class LeftHeading(markdown.Heading):
        def __rich_console__(self, console: Any, options: Any) -> Any:
            self.text.justify = "left"
            yield self.text

    class LeftMarkdown(markdown.Markdown):
        elements = markdown.Markdown.elements | {"heading_open": LeftHeading}

    return LeftMarkdown


@functools.cache
def _parser() -> Any:
    """Return the parser; what it would hide, as HTML, pictures and the targets of links, is text like any other."""
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable(["image", "reference"])


def last_block(text: str) -> int:
    """Return where the last block of a text begins, in characters; what is before is whole. 0 for a single one."""
    starts = [token.map[0] for token in _parser().parse(text) if token.level == 0 and token.map and token.nesting >= 0]
    if len(starts) < 2:
        return 0
    return sum(len(line) + 1 for line in text.split("\n")[: starts[-1]])


def lacks(shown: str, text: str) -> bool:
    """Return whether a rendering lacks a letter or a digit of its text, as cells of a narrow table do."""
    missing = Counter(filter(str.isalnum, _SILENT.sub("", text)))
    missing.subtract(filter(str.isalnum, without_controls(shown)))
    return any(count > 0 for count in missing.values())


def height(text: str, columns: int) -> int | None:
    """Return how many lines of a terminal a text takes, None where terminals differ on it."""
    rows = [_rows(line, columns) for line in text.split("\n")]
    return None if None in rows else sum(count or 0 for count in rows)


def _rows(line: str, columns: int) -> int | None:
    """Return how many lines one line takes: as many as its characters fill, wide ones never cut in two."""
    line = line.expandtabs(8)
    if line.isascii():
        return max(1, -(-len(line) // columns))
    if len(line) * _WORST <= columns:
        return 1
    import wcwidth

    widths = [wcwidth.wcwidth(character) for character in line]
    if sum(widths) != wcwidth.wcswidth(line) or min(widths) < 0:  # joined emoji and the like
        return None
    rows, used = 1, 0
    for width in widths:
        if used + width > columns:
            rows, used = rows + 1, 0
        used += width
    return rows


class Live:
    """The text of one reply on the terminal; `write()` its pieces, then `finish()`, or `leave()` it as it is."""

    def __init__(self) -> None:
        self.text = ""  # what is shown as it came, from the beginning of a block on
        self.size = os.terminal_size((0, 0))  # of the terminal, when that began
        self.resized = False  # since it began
        self.next_look = 0  # how long the text is to be

    def write(self, text: str) -> None:
        """Show a piece; where it ends a block, show that rendered."""
        if not self.text:
            text = text.lstrip("\n")
            self.size, self.resized = _size(), False
        output.out(text, newline=False)
        self.text += text
        if "\n" in text and len(self.text) >= self.next_look and not _is_open_code(self.text):
            self._look(self.text.rfind("\n") + 1)

    def _look(self, end: int) -> None:
        """Show the blocks rendered that are whole in the text up to an end."""
        begun = last_block(self.text[:end])
        if begun:
            self._replace(begun)
        self.next_look = len(self.text) + len(self.text) // _STEP

    def _replace(self, begun: int) -> None:
        """Show the blocks before a place rendered, and what follows as it came."""
        whole, rest = self.text[:begun], self.text[begun:]
        shown = self._erase(whole)
        if shown is not None:
            output.out(f"{shown}\n\n{rest}", newline=False)
        self.text = rest

    def _erase(self, whole: str) -> str | None:
        """Take back what is shown as it came and return its blocks rendered; None where it is left."""
        size, before = _size(), self.size
        rows = None if self.resized else height(self.text, size.columns)
        self.size, self.resized = size, size != before
        if self.resized or rows is None or rows >= size.lines:
            return None
        shown = rendered(whole, size.columns)
        if lacks(shown, whole):
            return None
        output.out(_CLEAR + (_UP + _CLEAR) * (rows - 1), newline=False)
        return shown

    def leave(self) -> None:
        """Leave what is there as it is: something else is to be written."""
        self.text = ""

    def finish(self) -> None:
        """Show the last block rendered, and end the line."""
        if not _is_open_code(self.text):
            self._look(len(self.text))
        shown = self._erase(self.text) if self.text.strip() else None
        if shown is not None:
            output.out(shown)
        elif not self.text.endswith("\n"):
            output.out()
        self.text = ""


def _is_open_code(text: str) -> bool:
    """Return whether a text is one code block that is still open, in which no other block can begin."""
    mark = text[:3]
    return mark in ("```", "~~~") and re.search(rf"\n {{0,3}}{mark}", text) is None
