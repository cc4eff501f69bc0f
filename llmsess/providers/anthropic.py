"""Anthropic's messages, through the anthropic SDK with its retries switched off.

Events are read as plain JSON, so that the usage object comes through verbatim and a stream that stops early is noticed:
it ends with `message_stop`. Anthropic's input tokens leave out what was read from and written to the cache; ours
include both. https://docs.anthropic.com/en/api/messages, events: https://docs.anthropic.com/en/api/messages-streaming
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmsess.models import dump_json, token_count
from llmsess.providers import media
from llmsess.providers.base import Delta, Request
from llmsess.providers.building import Building, Json, get, text
from llmsess.providers.sdk import SdkProvider, error_object

MAX_TOKENS = 16_384  # of a reply where nobody says: the API insists on a number, and every current model gives as many
INSTRUCTIONS = ("system", "developer")  # roles that the API takes apart from the conversation
IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_IN_STREAM = {"overloaded_error": "overloaded", "rate_limit_error": "rate_limit", "timeout_error": "timeout"}


@dataclass
class Answer(Building):
    """A message while its events come in."""

    def error_kind(self, error: Any) -> str:
        return _IN_STREAM.get(str(get(error, "type")), "server")

    def chunk(self, event: Json) -> Delta | None:
        match event.get("type"):
            case "message_start":
                self.start(event["message"])
            case "content_block_start":
                return self.block(event.get("index"), event["content_block"])
            case "content_block_delta":
                return self.add(event.get("index"), event["delta"])
            case "message_delta":
                self.finish_reason = text(event["delta"].get("stop_reason")) or self.finish_reason
                self.used(event.get("usage"))
            case "message_stop":
                self.done = True
        return None

    def entire(self, answer: Json) -> None:
        self.start(answer)
        self.finish_reason, self.done = text(answer.get("stop_reason")), True
        for index, block in enumerate(answer["content"]):
            self.block(index, block)

    def start(self, message: Json) -> None:
        self.begun = message.get("type", "message") == "message"
        self.model = text(message.get("model"))
        self.used(message.get("usage"))

    def used(self, usage: Any) -> None:
        """Take usage in: later figures replace earlier ones, and are cumulative."""
        if isinstance(usage, dict):
            self.usage = dict(self.usage or {}) | {name: count for name, count in usage.items() if count is not None}

    def block(self, index: Any, block: Json) -> Delta | None:
        if block.get("type") == "tool_use":
            arguments = block.get("input")
            self.calls[_index(index, self.calls)] = {
                "id": text(block.get("id")) or "", "name": text(block.get("name")) or "",
                "arguments": dump_json(arguments) if arguments else "",
            }  # fmt: skip
        return self.said(text(block.get("text")) or "", text(block.get("thinking")) or "")

    def add(self, index: Any, delta: Json) -> Delta | None:
        if delta.get("type") == "input_json_delta" and index in self.calls:
            self.calls[index]["arguments"] += text(delta.get("partial_json")) or ""
        return self.said(text(delta.get("text")) or "", text(delta.get("thinking")) or "")

    def tokens(self) -> dict[str, Any]:
        """Return the usage as fields of a Reply; Anthropic's input leaves out the cached, ours includes it."""
        fresh, cached, written = (
            token_count(get(self.usage, name))
            for name in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
        )
        return {
            "input_tokens": None if fresh is None else fresh + (cached or 0) + (written or 0),
            "cached_input_tokens": cached,
            "cache_write_tokens": written,
            "output_tokens": token_count(get(self.usage, "output_tokens")),
            "reasoning_tokens": token_count(get(get(self.usage, "output_tokens_details"), "thinking_tokens")),
        }


def _index(index: Any, calls: Mapping[int, Any]) -> int:
    return index if isinstance(index, int) else len(calls)


class Anthropic(SdkProvider):
    name = dialect = "anthropic"
    sdk_name, client_name = "anthropic", "Anthropic"
    building = Answer
    request_id_header = "request-id"
    url_env = "ANTHROPIC_BASE_URL"
    default_url = "https://api.anthropic.com"

    def endpoint(self, client: Any) -> Any:
        return client.messages

    def most_output_tokens(self, request: Request) -> int | None:
        return super().most_output_tokens(request) or MAX_TOKENS

    def opened(self, client: Any, body: dict[str, Any]) -> Any:
        if "output_config" in body:  # the API takes only part of JSON Schema; the SDK writes the rest as description
            asked = body["output_config"]["format"]
            with contextlib.suppress(ValueError, TypeError):  # what it cannot rewrite, the server may judge
                body["output_config"] = {"format": asked | {"schema": self.sdk.transform_schema(asked["schema"])}}
        return super().opened(client, body)

    def model_pages(self, client: Any) -> Any:
        return client.models.with_streaming_response.list(limit=1000)

    def body(self, request: Request) -> dict[str, Any]:
        said = [
            turn for turn in request.turns if turn.role not in INSTRUCTIONS and (turn.content.strip() or turn.blocks)
        ]
        instructions = [request.system, *(turn.content for turn in request.turns if turn.role in INSTRUCTIONS)]
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [{"role": turn.role, "content": self.content(turn)} for turn in said],
            "max_tokens": request.max_tokens or MAX_TOKENS,
            "stream": request.stream,
        }
        system = "\n\n".join(text for text in instructions if text and text.strip())
        if system:
            body["system"] = system
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.schema is not None:
            body["output_config"] = {"format": {"type": "json_schema", "schema": dict(request.schema)}}
        return body | dict(request.parameters)

    def block(self, block: Any) -> Any:
        found = media.of(block)
        if found is None:
            return block
        title = {"title": found.name} if found.name else {}
        if found.kind == "text":
            source = {"type": "text", "media_type": "text/plain", "data": found.text()}
            return {"type": "document", "source": source, **title}
        if found.url is not None:
            return {
                "type": "image" if found.kind == "image" else "document",
                "source": {"type": "url", "url": found.url},
            }
        source = {"type": "base64", "media_type": found.media_type, "data": found.data}
        if found.media_type in IMAGES:
            return {"type": "image", "source": source}
        if found.media_type == "application/pdf":
            return {"type": "document", "source": source, **title}
        raise media.unsupported(self.name, found, "PNG, JPEG, GIF and WebP images, texts and PDF")

    def kind(self, body: Any) -> str | None:
        said = str(error_object(body).get("message"))
        if "prompt is too long" in said:
            return "context_length"
        return "quota" if "credit balance" in said else None
