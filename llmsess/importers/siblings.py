"""Batch results hold no prompts: the requests of batch input files that lie beside them, by `custom_id`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from llmsess.importers.reading import text_or_none
from llmsess.importers.source import Source

Finder = Callable[[dict[str, Any]], dict[str, Any] | None]  # of a record's request, None where it has none


class Requests:
    """The requests of the files beside a source; only their places are kept, and only when one is asked for."""

    def __init__(self, source: Source, request: Finder) -> None:
        self.source, self.request = source, request
        self.places: dict[str, tuple[Source, int]] | None = None

    def find(self, custom_id: str | None) -> dict[str, Any] | None:
        """Return the request of that custom_id, None where no file beside has it."""
        if custom_id is None:
            return None
        if self.places is None:
            self.places = {key: (source, offset) for source in self._files() for key, offset in self._look(source)}
        source, offset = self.places.get(custom_id, (None, 0))
        if source is None:
            return None
        with source.open() as file:
            file.seek(offset)
            return self.request(json.loads(file.readline()))

    def _files(self) -> Iterator[Source]:
        for source in self.source.files():
            if source != self.source and source.member is None and source.name.endswith(".jsonl"):
                found = source.head().objects
                yield from [source] if any("custom_id" in record and self.request(record) for record in found) else []

    def _look(self, source: Source) -> Iterator[tuple[str, int]]:
        with source.open() as file:
            offset = 0
            for line in file:
                custom_id = self._custom_id(line)
                if custom_id is not None:
                    yield custom_id, offset
                offset += len(line)

    def _custom_id(self, line: bytes) -> str | None:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            return None
        named = isinstance(value, dict) and self.request(value) is not None
        return text_or_none(value.get("custom_id")) if named else None
