"""aider's history: `.aider.chat.history.md`, Markdown that grows in each project's folder.

`# aider chat started at TIME` (local time) begins a session, `#### ` a line of the person, `> ` one of aider itself or
of a tool; all else is the model's. Inside a fenced block of code such marks mean nothing. A session is a record; it is
known by its time and what follows it, its messages by their place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from llmsess.importers.base import Bad, Ignored, InputRecord, Item, SessionRecord, Whole
from llmsess.importers.chains import Turn, linear
from llmsess.importers.reading import digest, guessed_reference
from llmsess.importers.source import MAX_LINE_BYTES, Head, Source, damage

NAME = "aider"
DESCRIPTION = "aider's .aider.chat.history.md"
PLACES = (".aider.chat.history.md", "~/.aider.chat.history.md")
START = re.compile(r"# aider chat started at (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\s*$")
MODEL = re.compile(r"(?:Main model|Models?): (\S+)")
FENCE = re.compile(r"\s*(`{3,}|~{3,})")
MAX_SESSION_LINES = 200_000  # more is no conversation, and lies in memory


def matches(head: Head) -> bool:
    """Return whether the text has the beginning of a session in it."""
    return any(START.match(line) for line in head.text.splitlines())


def read(source: Source) -> Iterator[Item]:
    """Yield the sessions of a history; what stands before the first is ignored."""
    with source.open() as file:
        number, began, block = 0, 1, []  # type: int, int, list[str]
        while raw := file.readline(MAX_LINE_BYTES):
            number += 1
            line = raw.decode(errors="replace").rstrip("\r\n")
            if START.match(line) or len(block) >= MAX_SESSION_LINES:
                yield from session(began, block)
                began, block = number, []
            block.append(line)
        yield from session(began, block)
        if damage(file):
            yield Bad(InputRecord(number + 1, b""), damage(file))


def session(line: int, block: list[str]) -> Iterator[Item]:
    """Yield a session of the lines from its start on."""
    text = "\n".join(block)
    record = InputRecord(line, text.encode(errors="surrogatepass"))
    started = START.match(block[0]) if block else None
    if started is None:
        if text.strip():
            yield Ignored(record, "text before the first session")
        return
    said = list(turns(block[1:]))
    model = next((found[1] for turn in said if (found := MODEL.search(str(turn.content)))), None)
    first = next((line for line in block[1:] if line.strip()), "")
    named = SessionRecord(
        f"{started[1]}/{digest(first)[:8]}",
        model=guessed_reference(model, "unknown"),
        started_at=local(started[1]),
    )
    for turn in said:
        if turn.role == "assistant":
            turn.told["model"] = named.model
    yield from linear(named, said)
    yield Whole(record)


def local(text: str) -> datetime | None:
    """Return a time without a zone as this machine's, for here it was written."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        return None


def turns(lines: list[str]) -> Iterator[Turn]:
    """Yield what the person, aider and the model said, one after the other."""
    role, said, fence, ended = "", [], "", False  # type: str, list[str], str, bool
    for line in lines:
        marked = FENCE.match(line)
        if marked and not line.startswith("> "):
            fence = "" if fence and marked[1].startswith(fence) else fence or marked[1]
        whose, text = ("assistant", line) if fence or marked else side(line)
        if not text.strip() and whose == "assistant" and role != "assistant":
            ended = True  # the empty line between two sides, or between two prompts
            continue
        if said and (whose != role or (ended and role == "user")):
            yield from turn(role, said)
            said = []
        role, ended = whose, False
        said.append(text)
    yield from turn(role, said)


def side(line: str) -> tuple[str, str]:
    """Return who said a line, and what."""
    if line.startswith("#### "):
        return "user", line.removeprefix("#### ").removesuffix("  ")
    if line == ">" or line.startswith("> "):
        return "event", line.removeprefix(">").removeprefix(" ").removesuffix("  ")
    return "assistant", line


def turn(role: str, said: list[str]) -> Iterator[Turn]:
    text = "\n".join(said).strip("\n")
    told: dict[str, Any] = {"origin": "harness"} if role == "event" else {}
    if text.strip():
        yield Turn(role, text, told)
