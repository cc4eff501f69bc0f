"""Lines of results as OpenAI's and Anthropic's batch services write them: read, and OpenAI's written.

OpenAI: `{custom_id, response: {status_code, request_id, body}, error}`, answers and errors in a file each. Anthropic:
`{custom_id, result: {type: succeeded | errored | canceled | expired, message | error}}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmsess import providers
from llmsess.batches.storing import ERROR_CHARACTERS
from llmsess.batches.viewing import Item
from llmsess.errors import ProviderError
from llmsess.importers.reading import mapping, text_or_none
from llmsess.providers import Reply
from llmsess.providers.sdk import KINDS
from llmsess.texts import clean, one_line

UNSETTLED = ("todo", "claimed", "sent", "unknown", "skipped", "deleted")  # our own words for items without an end
ENDED = {"expired": "the service had no time for it", "canceled": "cancelled at the service",
         "batch_expired": "the service had no time for it", "batch_cancelled": "cancelled at the service"}  # fmt: skip
KIND_OF = {"expired": "expired", "batch_expired": "expired", "canceled": "cancelled", "batch_cancelled": "cancelled"}


@dataclass(frozen=True)
class Result:
    """What became of a request: a reply, or what went wrong. `model` is the one that answered, `http_status` known."""

    key: str
    reply: Reply | None = None
    error: str | None = None
    kind: str | None = None
    http_status: int | None = None
    request_id: str | None = None
    dialect: str = "openai"
    status: str = "failed"  # of the item, where there is no reply

    @property
    def model(self) -> str | None:
        """Return the reference of the model that answered, None where nobody says."""
        name = self.reply.model if self.reply is not None else None
        return f"{self.dialect}/{name}" if name and "/" not in name else name


def is_result(row: Mapping[str, Any]) -> bool:
    """Return whether a line is a result."""
    return "custom_id" in row and ("response" in row or "result" in row or ("error" in row and "body" not in row))


def read(row: Mapping[str, Any]) -> Result:
    """Return the result that a line is; what is odd about it is an error of it, never raised."""
    key = str(row.get("custom_id"))
    try:
        return _anthropic(key, mapping(row["result"])) if "result" in row else _openai(key, row)
    except ProviderError as error:
        return Result(key, error=one_line(error.message, ERROR_CHARACTERS), kind=error.error_kind)


def _openai(key: str, row: Mapping[str, Any]) -> Result:
    response, error = mapping(row.get("response")), row.get("error")
    status = response.get("status_code") if isinstance(response.get("status_code"), int) else None
    request_id = text_or_none(response.get("request_id"))
    body = response.get("body", response or None)
    if error is None and (status or 200) < 300 and isinstance(body, dict):
        reply = providers.read_reply("openai", body, http_status=status or 200, request_id=request_id)
        return Result(key, reply, http_status=status or 200, request_id=request_id)
    detail = error if error is not None else mapping(body).get("error")
    ours = mapping(detail).get("code")
    if ours in UNSETTLED:
        return Result(key, error="it has no answer", status=str(ours))
    code = text_or_none(mapping(detail).get("code")) or text_or_none(mapping(detail).get("type"))
    said = text_or_none(mapping(detail).get("message")) or (detail if isinstance(detail, str) else None)
    kind = KIND_OF.get(code or "") or KINDS.get(status or 0) or ("server" if (status or 0) >= 500 else "bad_request")
    return Result(key, None, _said(said or ENDED.get(code or "") or code), kind, status, request_id)


def _anthropic(key: str, result: Mapping[str, Any]) -> Result:
    kind = str(result.get("type"))
    if kind == "succeeded":
        reply = providers.read_reply("anthropic", mapping(result.get("message")), http_status=200)
        return Result(key, reply, http_status=200, dialect="anthropic")
    detail = mapping(result.get("error"))
    detail = mapping(detail.get("error")) or detail
    told = text_or_none(detail.get("message")) or ENDED.get(kind) or kind
    return Result(key, None, _said(told), KIND_OF.get(kind) or _ANTHROPIC.get(str(detail.get("type")), "server"))


_ANTHROPIC = {"invalid_request_error": "bad_request", "authentication_error": "auth", "permission_error": "auth",
              "billing_error": "quota", "not_found_error": "not_found", "request_too_large": "context_length",
              "rate_limit_error": "rate_limit", "overloaded_error": "overloaded",
              "timeout_error": "timeout"}  # fmt: skip


def _said(text: str | None) -> str:
    return one_line(clean(text or "failed"), ERROR_CHARACTERS)


# Written


def openai_line(item: Item, message: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return an item as a line of OpenAI's output; `message` is its answer in OpenAI's form, None where it has none."""
    line: dict[str, Any] = {"id": f"batch_req_{item.message or item.key}", "custom_id": item.key}
    if message is not None:
        usage = {"prompt_tokens": item.input_tokens or 0, "completion_tokens": item.output_tokens or 0}
        usage["total_tokens"] = sum(usage.values())
        body = {
            "id": f"chatcmpl-{item.message}", "object": "chat.completion", "created": _epoch(item),
            "model": (item.model or "").partition("/")[2],
            "choices": [{"index": 0, "message": dict(message), "finish_reason": item.finish_reason or "stop"}],
            "usage": usage,
        }  # fmt: skip
        return line | {
            "response": {"status_code": 200, "request_id": item.request_id or "", "body": body}, "error": None,
        }  # fmt: skip
    if item.http_status is not None and item.http_status >= 400 and item.status == "failed":
        error = {"message": item.error, "type": item.error_kind, "code": item.error_kind, "param": None}
        body = {"error": error}
        response = {"status_code": item.http_status, "request_id": item.request_id or "", "body": body}
        return line | {"response": response, "error": None}
    code = item.error_kind or item.status
    if item.status != "failed":
        code = {"cancelled": "batch_cancelled", "done": "deleted"}.get(item.status, item.status)
    said = item.error or ("the answer was deleted" if item.status == "done" else f"the item is {item.status}")
    return line | {"response": None, "error": {"code": code, "message": said}}


def _epoch(item: Item) -> int:
    return round(item.answered_at.timestamp()) if item.answered_at is not None else 0
