"""Batch results hold no prompts: the requests of batch input files that lie beside them, by `custom_id`."""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from llmsess.errors import InvalidInput
from llmsess.importers.reading import lines, text_or_none
from llmsess.importers.source import Source

Finder = Callable[[dict[str, Any]], dict[str, Any] | None]  # of a record's request, None where it has none


class Requests:
    """The requests of the files beside a source; read when one is asked for."""

    def __init__(self, source: Source, request: Finder) -> None:
        self.source, self.request = source, request
        self.lines: dict[str, bytes] | None = None  # compressed, of the requests that have a custom_id

    def find(self, custom_id: str | None) -> dict[str, Any] | None:
        """Return the request of that custom_id, None where no file beside has it."""
        if custom_id is None:
            return None
        if self.lines is None:
            self.lines = {key: zlib.compress(line, 1) for file in self._files() for key, line in self._look(file)}
        line = self.lines.get(custom_id)
        return None if line is None else self.request(json.loads(zlib.decompress(line)))

    def _files(self) -> Iterator[Source]:
        for file in self.source.files():
            if file != self.source and file.name.lower().endswith((".jsonl", ".jsonl.gz")):
                with contextlib.suppress(OSError, InvalidInput):  # it is told where it is imported itself
                    found = file.head().objects
                    yield from [file] if any("custom_id" in one and self.request(one) for one in found) else []

    def _look(self, file: Source) -> Iterator[tuple[str, bytes]]:
        with file.open() as opened:
            for record, value, _ in lines(opened):
                custom_id = text_or_none(value.get("custom_id")) if isinstance(value, dict) else None
                if custom_id is not None and self.request(value) is not None:
                    yield custom_id, record.raw
