"""A reply while its pieces come in, whatever the format: a back end says what an event or a whole answer adds to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llmsess.errors import ProviderError
from llmsess.providers import wire
from llmsess.providers.base import Delta, Reply
from llmsess.texts import clean

Json = Mapping[str, Any]
ODD_SHAPE = (AttributeError, TypeError, KeyError, IndexError)  # of reading JSON that is not as documented


@dataclass
class Building(ABC):
    """What has come of a reply so far; `begun` once there was an answer in it, `done` once it said that it ends."""

    provider: str
    request_id: str | None
    http_status: int
    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: dict[int, dict[str, str]] = field(default_factory=dict)  # tool calls: id, name, arguments
    finish_reason: str | None = None
    usage: Json | None = None
    model: str | None = None
    begun: bool = False
    done: bool = False

    @abstractmethod
    def chunk(self, event: Json) -> Delta | None:
        """Take an event of a stream in; return what it adds to the visible reply."""

    @abstractmethod
    def entire(self, answer: Json) -> None:
        """Take an answer in one piece in."""

    @abstractmethod
    def tokens(self) -> dict[str, Any]:
        """Return the token and cost fields of the Reply."""

    def event(self, data: str) -> Delta | None:
        """Take the data of one server-sent event in; return what it adds to the visible reply."""
        if data == "[DONE]":
            self.done = True
            return None
        event = self.parse(data)
        try:
            return self.chunk(event)
        except ODD_SHAPE as error:
            raise self.broken(f"an answer of an odd shape ({error})") from error

    def whole(self, text: str) -> Reply:
        """Take an answer in one piece in and return its Reply."""
        answer = self.parse(text)
        try:
            self.entire(answer)
        except ODD_SHAPE as error:
            raise self.broken(f"an answer of an odd shape ({error})") from error
        return self.reply()

    def parse(self, text: str) -> dict[str, Any]:
        value = wire.parsed(text, self.provider, http_status=self.http_status, request_id=self.request_id)
        if not isinstance(value, dict):
            raise self.broken("an answer that is no JSON object")
        if value.get("error"):
            detail = value["error"]
            said = detail.get("message") if isinstance(detail, dict) else detail
            raise ProviderError(
                f"{self.provider}: {said}", error_kind=self.error_kind(detail), http_status=self.http_status,
                billed=True, request_id=self.request_id,
            )  # fmt: skip
        return value

    def error_kind(self, error: Any) -> str:
        """Return the kind of an error that came inside an answer."""
        return "server"

    def broken(self, what: str) -> ProviderError:
        return wire.broken(self.provider, what, http_status=self.http_status, request_id=self.request_id)

    def said(self, text: str, reasoning: str = "") -> Delta | None:
        """Add to what is said and thought; return it as a delta, None where it is nothing."""
        if text:
            self.content.append(text)
        if reasoning:
            self.reasoning.append(reasoning)
        return Delta(text=text, reasoning=reasoning) if text or reasoning else None

    def reply(self) -> Reply:
        """Return the whole reply. Raises ProviderError where it is none, or ended early."""
        if not self.begun:
            raise self.broken("an answer without a reply")
        if not self.done and self.finish_reason is None:
            raise ProviderError(
                f"{self.provider}: the reply ended early", error_kind="truncated", http_status=self.http_status,
                billed=True, request_id=self.request_id,
            )  # fmt: skip
        return Reply(
            content="".join(self.content),
            reasoning="".join(self.reasoning) or None,
            tool_calls=[_tool_use(call) for _, call in sorted(self.calls.items())],
            finish_reason=self.finish_reason,
            usage=self.usage if isinstance(self.usage, dict) else None,
            model=self.model,
            request_id=self.request_id,
            http_status=self.http_status,
            **self.tokens(),
        )


def get(value: Any, key: str) -> Any:
    """Return a key of an object, None where it is none: what is odd about usage must not cost a reply that came."""
    return value.get(key) if isinstance(value, dict) else None


def text(value: Any) -> str | None:
    """Return a clean text, None for what is none."""
    return clean(value) if isinstance(value, str) else None


def _tool_use(call: Mapping[str, str]) -> dict[str, Any]:
    """Return a tool call as a block; arguments that are no JSON stay a string."""
    try:
        arguments = wire.parsed(call["arguments"] or "{}", "")
    except ProviderError:
        arguments = call["arguments"]
    return {"type": "tool_use", "id": call["id"], "name": call["name"], "input": arguments}
