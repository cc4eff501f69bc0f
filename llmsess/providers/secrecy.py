"""Keys kept out of what a server says, should it repeat one: in whole texts, and in pieces that cut it in two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

SHORTEST_KEY = 8  # characters; what is shorter is no secret, and stands in other words
INSTEAD = "[key]"
T = TypeVar("T")


def _secret(key: str | None) -> str:
    """Return a key that is long enough to be one, "" for any other."""
    return key if key is not None and len(key) >= SHORTEST_KEY else ""


def hidden(thing: T, key: str | None) -> T:
    """Return a reply or an error, changed in place, with every appearance of the key as [key]."""
    secret = _secret(key)
    if secret and secret in repr(vars(thing)):
        for name, value in vars(thing).items():
            object.__setattr__(thing, name, _replaced(value, secret))
        if isinstance(thing, Exception):
            thing.args = tuple(_replaced(value, secret) for value in thing.args)
    return thing


def _replaced(value: Any, key: str) -> Any:
    if isinstance(value, str):
        return value.replace(key, INSTEAD)
    if isinstance(value, Mapping):
        return {_replaced(name, key): _replaced(item, key) for name, item in value.items()}
    return [_replaced(item, key) for item in value] if isinstance(value, (list, tuple)) else value


class Pieces:
    """A text that comes in pieces: what may be the beginning of the key waits for the next."""

    def __init__(self, key: str | None) -> None:
        self.key = _secret(key)
        self.waiting = ""

    def take(self, piece: str) -> str:
        """Return what can be shown now."""
        if not self.key:
            return piece
        text = (self.waiting + piece).replace(self.key, INSTEAD)
        longest = min(len(self.key) - 1, len(text))
        begun = next((n for n in range(longest, 0, -1) if text.endswith(self.key[:n])), 0)
        self.waiting = text[len(text) - begun :]
        return text[: len(text) - begun]

    def rest(self) -> str:
        """Return what waited, at the end."""
        rest, self.waiting = self.waiting, ""
        return rest
