"""One JSON document, read element by element, so that an array of any size needs the memory of its largest element.

The standard library's decoder reads the elements, from a buffer that is filled as it needs more; so each is given with
its own text, as it lies in the file. (ijson would do the same but for its memory, which grows with the square of the
depth: a few kilobytes of brackets fill the machine.)
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import IO, Any

from llmsess.importers.source import BUFFER_BYTES, MAX_LINE_BYTES

SPACE = re.compile(r"[ \t\r\n\ufeff]*")
IN_NUMBERS = ("", *"0123456789.eE+-")  # what may go on a number that ends there, or the text
NEAR_END = 16  # characters: an error so near to the end of the buffer may be only for want of more


class Broken(Exception):
    """The document cannot be read any further."""


def elements(file: IO[bytes], key: str | None) -> Iterator[tuple[str, Any]]:
    """Yield the text and the value of each element of an array, or of the array under a key of an object.

    Without a key an object is one element. Raises Broken where the document is damaged, nested too deeply or an element
    is larger than 256 MiB.
    """
    text = _Text(file)
    if text.peek() == "{":
        if key is None:
            yield text.element()
            return
        text.enter(key)
    text.expect("[")
    while text.peek() not in ("]", ""):
        yield text.element()
        if text.peek() != "]":
            text.expect(",")
    text.expect("]")


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
        data = self.file.read(max(BUFFER_BYTES, len(self.buffer)))
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

    def element(self) -> tuple[str, Any]:
        """Return the text and the value of the element that comes next."""
        self.peek()
        while True:
            try:
                value, end = self.decoder.raw_decode(self.buffer, self.place)
            except RecursionError as error:
                raise Broken("no JSON: nested too deeply") from error
            except ValueError as error:
                if self.ended or not _may_go_on(error, len(self.buffer)):
                    raise Broken(self.told(str(getattr(error, "msg", error)).lower())) from error
            else:
                if self.ended or self.buffer[end : end + 1] not in IN_NUMBERS:
                    text = self.buffer[self.place : end]
                    self.place = end
                    return text, value
            if len(self.buffer) - self.place > MAX_LINE_BYTES:
                raise Broken(self.told("an element is larger than 256 MiB"))
            self.fill()

    def enter(self, wanted: str) -> None:
        """Go to what stands under a key of the object that begins here."""
        self.expect("{")
        while self.peek() == '"':
            _, name = self.element()
            self.expect(":")
            if name == wanted:
                return
            self.element()
            if self.peek() != "}":
                self.expect(",")
        raise Broken(self.told(f'nothing under "{wanted}"'))


def _may_go_on(error: ValueError, length: int) -> bool:
    place = getattr(error, "pos", 0)
    return place >= length - NEAR_END or str(getattr(error, "msg", "")).startswith("Unterminated string")
