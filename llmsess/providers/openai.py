"""OpenAI and every server that speaks its chat completions, through the openai SDK with its retries switched off.

Answers are read as plain JSON rather than through the SDK's models, so that fields of other servers (reasoning,
cost) and the usage object come through verbatim, and so that a stream that stops early is noticed: it ends with
`[DONE]` or a finish reason. https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from llmsess.errors import InvalidInput, MissingExtra, ProviderError
from llmsess.models import reported_usd, token_count
from llmsess.providers import wire
from llmsess.providers.base import Delta, Provider, Reply, Request, Turn
from llmsess.texts import clean

try:
    import openai
except ImportError as missing:
    raise MissingExtra("the openai SDK", "providers") from missing

NO_KEY = "none"  # the SDK insists on one; local servers ignore it
_KINDS = {400: "bad_request", 401: "auth", 403: "auth", 404: "not_found", 408: "timeout", 413: "context_length",
          422: "bad_request", 429: "rate_limit", 503: "overloaded", 529: "overloaded"}  # fmt: skip


class OpenAI(Provider):
    name = "openai"

    def client(self, base_url: str | None, api_key: str | None, timeout_s: float = 30.0) -> openai.OpenAI:
        """Return an SDK client that never retries; without a base URL it takes OPENAI_BASE_URL or OpenAI's own."""
        return openai.OpenAI(
            base_url=base_url or self.base_url, api_key=api_key or NO_KEY, max_retries=0, timeout=timeout_s
        )

    def check(self, request: Request) -> None:
        url = request.base_url or self.base_url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com"
        try:
            address = urlsplit(url)
            known = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
        except ValueError:  # an odd port, an odd IPv6 address
            known = False
        if not known:
            raise InvalidInput(f'"{url}" is no address of a server', hint="as https://host:port/v1")

    def send(self, request: Request) -> Iterator[Delta | Reply]:
        body = self.body(request)
        with (
            self.client(request.base_url, request.api_key, request.timeout_s) as client,
            contextlib.ExitStack() as stack,
        ):
            with self.guarded(answered=False):
                response = stack.enter_context(client.chat.completions.with_streaming_response.create(**body))
            yield from self.read(response)

    @contextlib.contextmanager
    def guarded(self, *, answered: bool) -> Iterator[None]:
        """Run the SDK; whatever it and what it stands on raise on an answer becomes a ProviderError."""
        try:
            yield
        except openai.APIError as error:
            raise translate(error, self.name, answered) from error
        except Exception as error:  # the library below raises what it likes on odd bytes
            raise ProviderError(
                f"{self.name}: the answer could not be read: {_reason(error)}", error_kind=_kind_of(error), billed=True
            ) from error

    def pieces(self, response: Any) -> Iterator[bytes]:
        """Yield the bytes of an open response as they come."""
        with self.guarded(answered=True):
            yield from response.iter_bytes()

    def body(self, request: Request) -> dict[str, Any]:
        """Return the request as the API wants it."""
        messages = [message(turn) for turn in request.turns]
        if request.system:
            messages.insert(0, {"role": "system", "content": request.system})
        body: dict[str, Any] = {"model": request.model, "messages": messages, "stream": request.stream}
        if request.stream:
            body["stream_options"] = {"include_usage": True}
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.max_tokens is not None:
            body["max_completion_tokens" if self.name == "openai" else "max_tokens"] = request.max_tokens
        if request.parameters:
            body["extra_body"] = dict(request.parameters)
        return body

    def read(self, response: Any) -> Iterator[Delta | Reply]:
        """Yield the deltas and the Reply of an open response, streamed or whole."""
        building = Building(self.name, response.headers.get("x-request-id"), response.status_code)
        if "event-stream" not in response.headers.get("content-type", ""):
            yield building.whole(wire.whole(self.pieces(response), self.name))
            return
        for line in wire.lines(self.pieces(response), self.name):
            if line.startswith("data:"):
                delta = building.event(line[5:].strip())
                if delta is not None:
                    yield delta
            if building.done:
                break
        yield building.reply()

    def list_models(self, *, base_url: str | None = None, api_key: str | None = None) -> list[str]:
        with self.client(base_url, api_key) as client, contextlib.ExitStack() as stack:
            with self.guarded(answered=False):
                response = stack.enter_context(client.models.with_streaming_response.list())
            answer = wire.parsed(wire.whole(self.pieces(response), self.name), self.name)
        data = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(data, list):
            raise wire.broken(self.name, "no list of models")
        return sorted(
            clean(model["id"]) for model in data if isinstance(model, dict) and isinstance(model.get("id"), str)
        )


def message(turn: Turn) -> dict[str, Any]:
    """Return a turn as a chat message."""
    return {"role": turn.role, "content": list(turn.blocks) if turn.blocks else turn.content}


@dataclass
class Building:
    """A reply while its pieces come in."""

    provider: str
    request_id: str | None
    http_status: int
    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: dict[int, dict[str, str]] = field(default_factory=dict)
    finish_reason: str | None = None
    usage: Mapping[str, Any] | None = None
    model: str | None = None
    done: bool = False
    choices_seen: bool = False
    half: str = ""  # the first half of a character whose second is to come

    def event(self, data: str) -> Delta | None:
        """Take one server-sent event in; return what it adds to the visible reply."""
        if data == "[DONE]":
            self.done = True
            return None
        try:
            return self.chunk(self.parse(data))
        except (AttributeError, TypeError, KeyError) as error:
            raise self.broken(f"an answer of an odd shape ({error})") from error

    def chunk(self, chunk: Mapping[str, Any]) -> Delta | None:
        self.usage = chunk.get("usage") or self.usage
        self.model = _text(chunk.get("model")) or self.model
        choices = chunk.get("choices") or []
        if not choices:
            return None
        self.choices_seen = True
        self.finish_reason = _text(choices[0].get("finish_reason")) or self.finish_reason
        return self.add(choices[0].get("delta") or {})

    def whole(self, text: str) -> Reply:
        """Take a whole completion in and return its Reply."""
        completion = self.parse(text)
        choices = completion.get("choices") or []
        self.usage, self.model = completion.get("usage"), _text(completion.get("model"))
        try:
            if choices:
                self.choices_seen = self.done = True
                self.finish_reason = _text(choices[0].get("finish_reason"))
                self.add(choices[0].get("message") or {})
        except (AttributeError, TypeError, KeyError) as error:
            raise self.broken(f"an answer of an odd shape ({error})") from error
        return self.reply()

    def parse(self, text: str) -> dict[str, Any]:
        value = wire.parsed(text, self.provider, http_status=self.http_status, request_id=self.request_id)
        if not isinstance(value, dict):
            raise self.broken("an answer that is no JSON object")
        if value.get("error"):
            detail = value["error"]
            said = detail.get("message") if isinstance(detail, dict) else detail
            raise ProviderError(f"{self.provider}: {said}", error_kind="server", billed=True)
        return value

    def add(self, delta: Mapping[str, Any]) -> Delta | None:
        text = delta.get("content") or delta.get("refusal") or ""
        reasoning = delta.get("reasoning_content") or delta.get("reasoning") or ""
        if isinstance(text, list):
            text = "".join(str(block.get("text", "")) for block in text if isinstance(block, dict))
        text = self.paired(text)
        for i, call in enumerate(delta.get("tool_calls") or []):
            index = call.get("index")
            known = self.calls.setdefault(
                index if isinstance(index, int) else i, {"id": "", "name": "", "arguments": ""}
            )
            function = call.get("function") or {}
            known["id"] = call.get("id") or known["id"]
            known["name"] += function.get("name") or ""
            known["arguments"] += function.get("arguments") or ""
        if text:
            self.content.append(text)
        if reasoning:
            self.reasoning.append(str(reasoning))
        return Delta(text=text, reasoning=str(reasoning)) if text or reasoning else None

    def paired(self, text: str) -> str:
        """Return the text with a character that was split over two pieces put together again."""
        text, self.half = self.half + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self.half = text[:-1], text[-1]
        if any("\ud800" <= character <= "\udfff" for character in text):
            return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return text

    def broken(self, what: str) -> ProviderError:
        return wire.broken(self.provider, what, http_status=self.http_status, request_id=self.request_id)

    def reply(self) -> Reply:
        if not self.choices_seen:
            raise self.broken("an answer without choices")
        if not self.done and self.finish_reason is None:
            raise ProviderError(
                f"{self.provider}: the reply ended early", error_kind="truncated", http_status=self.http_status,
                billed=True, request_id=self.request_id,
            )  # fmt: skip
        return Reply(
            content="".join(self.content),
            reasoning="".join(self.reasoning) or None,
            tool_calls=[tool_use(call) for _, call in sorted(self.calls.items())],
            finish_reason=self.finish_reason,
            usage=self.usage if isinstance(self.usage, dict) else None,
            model=self.model,
            request_id=self.request_id,
            http_status=self.http_status,
            **tokens(self.usage),
        )


def tool_use(call: Mapping[str, str]) -> dict[str, Any]:
    """Return a tool call as a block; arguments that are no JSON stay a string."""
    try:
        arguments = wire.parsed(call["arguments"] or "{}", "")
    except ProviderError:
        arguments = call["arguments"]
    return {"type": "tool_use", "id": call["id"], "name": call["name"], "input": arguments}


def tokens(usage: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a usage object as the token and cost fields of a Reply; OpenAI's input includes the cached already."""
    prompt, completion = _object(usage, "prompt_tokens_details"), _object(usage, "completion_tokens_details")
    return {
        "input_tokens": token_count(_object(usage, "prompt_tokens")),
        "cached_input_tokens": token_count(_object(prompt, "cached_tokens")),
        "cache_write_tokens": token_count(_object(prompt, "cache_write_tokens")),
        "output_tokens": token_count(_object(usage, "completion_tokens")),
        "reasoning_tokens": token_count(_object(completion, "reasoning_tokens")),
        "cost_usd": reported_usd(_object(usage, "cost")),  # OpenRouter and gateways like it
    }


def _text(value: Any) -> str | None:
    return clean(value) if isinstance(value, str) else None


def _object(value: Any, key: str) -> Any:
    """Return a key of an object, None where it is none: what is odd about usage must not cost a reply that came."""
    return value.get(key) if isinstance(value, dict) else None


def translate(error: openai.APIError, name: str, answered: bool) -> ProviderError:
    """Return the SDK's error as ours."""
    if isinstance(error, openai.APIStatusError):
        status = error.status_code
        kind = _KINDS.get(status, "server" if status >= 500 else "bad_request")
        if getattr(error, "code", None) == "context_length_exceeded":
            kind = "context_length"
        return ProviderError(
            f"{name} answered {status}: {said(error)}",
            error_kind=kind,
            http_status=status,
            retry_after_s=wire.retry_after_s(error.response.headers),
            billed=status >= 500,
            request_id=error.response.headers.get("x-request-id"),
            hint="check the API key" if kind == "auth" else _wait(wire.retry_after_s(error.response.headers)),
        )
    if isinstance(error, openai.APITimeoutError):
        return ProviderError(f"{name} did not answer in time", error_kind="timeout", billed=True)
    if isinstance(error, openai.APIConnectionError):
        where = str(error.request.url) if error.request else "the server"
        return ProviderError(
            f"{name}: no connection to {where}: {_reason(error.__cause__ or error)}",
            error_kind="connection",
            billed=answered or not _refused(error),
            hint="is the server running?" if _refused(error) else None,
        )
    return ProviderError(f"{name}: {error.message}", error_kind="bad_response", billed=True)


def said(error: openai.APIStatusError) -> str:
    """Return what the server said in one short line."""
    body = error.body
    detail = body.get("message") if isinstance(body, dict) else None
    return " ".join(str(detail or error.response.text or error.message).split())[:300] or "nothing"


def _wait(seconds: float | None) -> str | None:
    return None if seconds is None else f"try again in {math.ceil(seconds)} s"


def _kind_of(error: Exception) -> str:
    """Return what an error below the SDK is, by the names of its classes, which its HTTP library changed once."""
    names = [kind.__name__ for kind in type(error).__mro__]
    if any("Timeout" in name for name in names):
        return "timeout"
    return "connection" if "TransportError" in names or "StreamError" in names else "bad_response"


def _refused(error: Exception) -> bool:
    return "refused" in _reason(error).lower() or "ConnectError" in type(error.__cause__).__name__


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
