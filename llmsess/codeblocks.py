"""Fenced code blocks of Markdown: https://spec.commonmark.org/0.31.2/#fenced-code-blocks"""

from __future__ import annotations

import re

_OPENING = re.compile(r"( {0,3})(`{3,}|~{3,})([^`]*|(?<=~).*)")


def first(text: str) -> str | None:
    """Return what the first code block of a text holds, None where there is none."""
    return next(iter(_blocks(text)), None)


def last(text: str) -> str | None:
    """Return what the last code block of a text holds, None where there is none; one that is not closed counts."""
    return next(iter(_blocks(text)[::-1]), None)


def _blocks(text: str) -> list[str]:
    """Return what the code blocks of a text hold."""
    found: list[str] = []
    lines: list[str] = []
    fence, indent = "", 0
    for line in text.split("\n"):
        if not fence:
            opening = _OPENING.fullmatch(line.rstrip("\r"))
            if opening:
                indent, fence, lines = len(opening[1]), opening[2], []
        elif _closes(line, fence):
            found.append("\n".join(lines))
            fence = ""
        else:
            lines.append(line[min(indent, len(line) - len(line.lstrip(" "))) :])
    return [*found, "\n".join(lines)] if fence else found


def _closes(line: str, fence: str) -> bool:
    mark = line.strip()
    return len(line) - len(line.lstrip(" ")) < 4 and len(mark) >= len(fence) and set(mark) == {fence[0]}
