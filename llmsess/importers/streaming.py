"""One JSON document, read element by element, so that an array of any size needs the memory of its largest element.

The standard library's decoder reads the elements, from a buffer that is filled as it needs more; so each is given with
its own text, as it lies in the file. An element that it refuses (nested too deeply, a number of thousands of digits,
too large) is passed over. (ijson would do much of this, but its memory grows with the square of the depth, and a long
number ends the process.)
"""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Iterator
from typing import IO, Any

from llmsess.importers.source import BUFFER_BYTES, HEAD_RECORDS, MAX_LINE_BYTES

SPACE = re.compile(r"[ \t\r\n\ufeff]*")
TOKEN = re.compile(r'[\[\]{},"]')
IN_STRING = re.compile(r'(?:[^"\\]|\\.)*', re.DOTALL)  # what is left of a string, to its end or that of the buffer
IN_NUMBERS = ("", *"0123456789.eE+-")  # what may go on a number that ends there, or the text
NEAR_END = 16  # characters: an error so near to the end of the buffer may be only for want of more
PARTIAL_DEPTH = 8  # how deep the beginning of a cut document is looked at
DEEP = "no JSON: nested too deeply"

Element = tuple[str, Any, str | None]  # text, value, and what is wrong with it, whose value then says nothing


class Broken(Exception):
    """The document cannot be read any further."""


def elements(file: IO[bytes], key: str | None) -> Iterator[Element]:
    """Yield each element of an array, or of the array under a key of an object; without a key an object is one element.

    Raises Broken where the document is damaged.
    """
    text = _Text(file)
    if text.peek() == "{":
        if key is None:
            yield text.element()
            text.end()
            return
        text.enter(key)
    text.expect("[")
    while text.peek() not in ("]", ""):
        yield text.element()
        if text.peek() != "]":
            text.expect(",")
    text.expect("]")
    if key is None:
        text.end()


def beginning(start: bytes) -> Any:
    """Return the value of a document as far as its first bytes tell it, of long arrays the first elements."""
    return _partial(_Text(io.BytesIO(start)), PARTIAL_DEPTH)


def _partial(text: _Text, depth: int) -> Any:
    opening = text.peek()
    if opening not in ("{", "[") or depth == 0:
        return None
    text.expect(opening)
    made: Any = {} if opening == "{" else []
    try:
        while text.peek() not in ("}", "]", "") and len(made) < HEAD_RECORDS:
            name = text.element()[1] if opening == "{" else None
            if opening == "{":
                text.expect(":")
            text.peek()
            place = text.dropped + text.place
            try:
                value, whole = text.element()[1], True
            except Broken:
                text.place = place - text.dropped
                value, whole = _partial(text, depth - 1), False
            if opening == "{":
                made[str(name)] = value
            else:
                made.append(value)
            if not whole:
                break
            if text.peek() == ",":
                text.expect(",")
    except Broken:
        pass  # the rest was not given
    return made


class _Text:
    """The text of a file from a place on, as far as it has been read."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.ended = file, False
        self.decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self.decoder = json.JSONDecoder(strict=False)
        self.buffer, self.place, self.dropped = "", 0, 0

    def fill(self) -> None:
        """Read as much again as there is, at least one block; what lies behind is dropped."""
        self.dropped += self.place
        self.buffer, self.place = self.buffer[self.place :], 0
        wanted = min(len(self.buffer), MAX_LINE_BYTES + BUFFER_BYTES - len(self.buffer))
        data = self.file.read(max(BUFFER_BYTES, wanted))
        self.ended = not data
        self.buffer += self.decode(data, final=self.ended)

    def peek(self) -> str:
        """Return the next character that is no white space, "" at the end."""
        while True:
            found = SPACE.match(self.buffer, self.place)
            self.place = found.end() if found else self.place
            if self.place < len(self.buffer) or self.ended:
                return self.buffer[self.place : self.place + 1]
            self.fill()

    def expect(self, character: str) -> None:
        if self.peek() != character:
            raise Broken(self.told(f'"{character}" was expected'))
        self.place += 1

    def told(self, problem: str) -> str:
        return f"no JSON: {problem} (character {self.dropped + self.place + 1:,})"

    def end(self) -> None:
        if self.peek():
            raise Broken(self.told("more follows the document"))

    def element(self) -> Element:
        """Return the element that comes next."""
        self.peek()
        while True:
            try:
                value, end = self.decoder.raw_decode(self.buffer, self.place)
            except RecursionError:
                return self.passed_over(DEEP)
            except json.JSONDecodeError as error:
                if self.ended or not _may_go_on(error, len(self.buffer)):
                    raise Broken(self.told(error.msg.lower())) from error
            except ValueError as error:
                return self.passed_over(f"no JSON: {error}")
            else:
                too_large = end - self.place > MAX_LINE_BYTES
                if not too_large and (self.ended or self.buffer[end : end + 1] not in IN_NUMBERS):
                    text, self.place = self.buffer[self.place : end], end
                    return text, value, None
            if len(self.buffer) - self.place > MAX_LINE_BYTES:
                return self.passed_over("an element is larger than 256 MiB")
            self.fill()

    def passed_over(self, problem: str) -> Element:
        """Go behind the element that comes next, by its brackets alone, and say what was wrong with it."""
        depth, in_string = 0, False
        while True:
            if in_string:
                rest = IN_STRING.match(self.buffer, self.place)
                self.place = rest.end() if rest else self.place
                in_string = self.buffer[self.place : self.place + 1] != '"'
                self.place += not in_string
            found = None if in_string else TOKEN.search(self.buffer, self.place)
            if found is None:
                self.place = self.place if in_string else len(self.buffer)
                if self.ended:
                    raise Broken(problem)
                self.fill()
                continue
            mark, self.place = found[0], found.start()
            if depth == 0 and mark in "]},":
                return "", None, problem
            in_string = mark == '"'
            depth += (mark in "[{") - (mark in "]}")
            self.place += 1
            if depth == 0 and mark in "]}":
                return "", None, problem

    def enter(self, wanted: str) -> None:
        """Go to what stands under a key of the object that begins here."""
        self.expect("{")
        while self.peek() == '"':
            name = self.element()[1]
            self.expect(":")
            if name == wanted:
                return
            self.element()
            if self.peek() != "}":
                self.expect(",")
        raise Broken(self.told(f'nothing under "{wanted}"'))


def _may_go_on(error: json.JSONDecodeError, length: int) -> bool:
    return error.pos >= length - NEAR_END or error.msg.startswith("Unterminated string")
