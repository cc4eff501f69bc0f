"""Markdown on a terminal: whatever comes, in whatever pieces, each word is on the screen once and in its place."""

from __future__ import annotations

import json
import os
import random
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from llmsess.cli import markdown
from tests.conftest import FUZZ

pexpect = pytest.importorskip("pexpect")
pyte = pytest.importorskip("pyte")
WRITER = """
import json, sys
from llmsess.cli.markdown import Live
for n, pieces in enumerate(json.load(open(sys.argv[1]))):
    live = Live()
    for piece in pieces:
        live.write(piece)
    live.finish()
    print(f"=={n}==")
"""
WIDE = ["ünï", "é", "ß", "Ω"]  # pyte sets a character of two columns into the last one, which no terminal does


def document(rng: random.Random) -> str:
    """Return a text of random blocks whose words are all different."""
    count = iter(range(10**6))

    def words(many: int) -> str:
        said = [f"w{next(count)};" + (rng.choice(WIDE) if rng.random() < 0.15 else "") for _ in range(many)]
        return " ".join(f"**{word}**" if rng.random() < 0.1 else word for word in said)

    def block() -> str:
        kind = rng.randrange(8)
        if kind == 0:
            return "#" * rng.randint(1, 4) + " " + words(rng.randint(1, 6))
        if kind == 1:
            return "\n".join(f"- {words(rng.randint(1, 12))}" for _ in range(rng.randint(1, 5)))
        if kind == 2:
            return "\n\n".join(f"{i}. {words(3)}\n\n   {words(4)}" for i in range(1, rng.randint(2, 4)))
        if kind == 3:
            lines = "\n".join("" if rng.random() < 0.3 else words(2) for _ in range(rng.randint(1, 20)))
            return f"```python\n{lines.replace('**', '')}\n```"
        if kind == 4:
            return f"> {words(10)}"
        if kind == 5:
            return words(2) + "\n" + "=" * 5
        return words(rng.randint(1, 40))

    return rng.choice(["\n\n", "\n\n\n"]).join(block() for _ in range(rng.randint(1, 6))) + rng.choice(["", "\n"])


def pieces(text: str, rng: random.Random) -> list[str]:
    size = rng.choice([1, 5, 40, 10_000])
    return [text[i : i + size] for i in range(0, len(text), size)]


@pytest.mark.parametrize(("lines", "columns"), [(40, 80), (12, 31)])
def test_every_word_is_shown_once_and_in_its_place_in_any_mix(tmp_path: Path, lines: int, columns: int) -> None:
    seed = random.randrange(10**6)
    print("seed", seed)
    rng = random.Random(seed)
    texts = [document(rng) for _ in range(40 * FUZZ)]
    file = tmp_path / "documents.json"
    file.write_text(json.dumps([pieces(text, rng) for text in texts]))
    screen = pyte.HistoryScreen(columns, lines, history=10**6, ratio=1)
    stream = pyte.ByteStream(screen)
    env = os.environ | {"TERM": "xterm-256color", "COLUMNS": "77"}  # the terminal has the last word
    child = pexpect.spawn(sys.executable, ["-c", WRITER, str(file)], dimensions=(lines, columns), env=env, timeout=120)
    try:
        while True:
            stream.feed(child.read_nonblocking(65536, timeout=120))
    except pexpect.EOF:
        child.wait()
    assert child.exitstatus == 0
    rows = ["".join(row[x].data for x in range(columns)) for row in (*screen.history.top, *_buffer(screen, lines))]
    shown = re.split(r"==\d+== *\n", "\n".join(rows))
    for n, text in enumerate(texts):
        joined = re.sub(r"\s", "", shown[n])  # a long word is cut at the edge and goes on below
        assert re.findall(r"w\d+;", joined) == re.findall(r"w\d+;", text), (seed, n, text)


def _buffer(screen: Any, lines: int) -> list[Any]:
    return [screen.buffer[y] for y in range(lines)]


def test_rendering_keeps_within_the_columns_and_shows_no_marks() -> None:
    text = markdown.rendered("# Title\n\nSome **bold** text that is wrapped.\n\n- one\n- two", 20)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert plain == "Title\n\nSome bold text that\nis wrapped.\n\n • one\n • two"


@pytest.mark.parametrize(
    ("text", "columns", "rows"),
    [
        ("", 10, 1),
        ("1234567890", 10, 1),
        ("12345678901", 10, 2),
        ("a\nb\n", 10, 3),
        ("\tx", 8, 2),
        ("日本語日本語", 5, 3),
        ("ééééééé", 4, 2),
        ("👩\u200d💻" * 20, 10, None),
    ],
)
def test_the_lines_that_a_text_takes_on_a_terminal(text: str, columns: int, rows: int | None) -> None:
    assert markdown.height(text, columns) == rows


def test_a_block_is_whole_when_the_next_has_begun() -> None:
    assert markdown.last_block("one\n") == 0
    assert markdown.last_block("one\n\n") == 0
    assert markdown.last_block("one\n\ntwo") == 5
    assert markdown.last_block("- one\n\n  still one\n") == 0
    assert markdown.last_block("# head\ntext") == 7
    assert markdown.last_block("```\na\n\nb\n") == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<think>\nsome reasoning\n</think>\nThe answer is 4.", ["some reasoning", "<think>", "answer"]),
        ("Use the <div> element inside <body>", ["<div>", "<body>"]),
        ("See ![diagram](https://x.y/a.png) here.", ["See !diagram (https://x.y/a.png) here."]),
        ("text [1]\n\n[1]: https://x.y/z", ["[1]: https://x.y/z"]),
    ],
)
def test_nothing_of_a_text_is_hidden(text: str, words: list[str]) -> None:
    shown = re.sub(r"\x1b\[[0-9;]*m", "", markdown.rendered(text, 80))
    assert all(word in shown for word in words)
    assert not markdown.lacks(shown, text)


def test_a_rendering_that_lacks_something_is_seen() -> None:
    table = "|".join(["", *(f" value{i} " for i in range(12)), ""])
    text = f"{table}\n{'|---' * 12}|\n{table}"
    assert markdown.lacks(markdown.rendered(text, 40), text)
    assert not markdown.lacks(markdown.rendered(text, 400), text)


def test_a_long_list_is_looked_at_few_times() -> None:
    """Two thousand items took a minute and a half when each line was parsed anew."""
    text = "".join(f"- item {i} with some words\n" for i in range(2000))
    looks = 0

    class Counting(markdown.Live):
        def _look(self, end: int) -> None:
            nonlocal looks
            looks += 1
            super()._look(end)

    live = Counting()
    for line in text.splitlines(keepends=True):
        live.write(line)
    live.finish()
    assert looks < 100
