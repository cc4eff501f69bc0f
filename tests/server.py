"""A real HTTP server on loopback that speaks OpenAI's chat completions and Anthropic's messages, and misbehaves as the
model's name asks.

Models: echo (answers with the last prompt); usage-last-chunk, usage-with-choices, no-usage, no-done; slow (a word each
0.2 s), hang (two words, then nothing), reset (two words, then the connection is reset), early (two words, then the end);
429-seconds, 429-date, 429-ms, 500, 529, 401, 404, context; not-json, truncated-json, no-choices, error-event; tools,
reasoning, reasoning-openrouter, cost; refuse-stream (answers plain JSON whatever is asked); busy-N-STATUS (N refusals,
then an answer); drop, drop-N (no answer, always or so often); moved (a redirect).
"""

from __future__ import annotations

import email.utils
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from tests.services import Services

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18, "prompt_tokens_details": {"cached_tokens": 4},
         "completion_tokens_details": {"reasoning_tokens": 2}}  # fmt: skip
ANTHROPIC_USAGE = {"input_tokens": 5, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 2, "output_tokens": 7,
                   "output_tokens_details": {"thinking_tokens": 2}}  # fmt: skip
FAILURES: dict[str, tuple[int, dict[str, str], str]] = {
    "429-seconds": (429, {"Retry-After": "7"}, "slow down"),
    "429-ms": (429, {"Retry-After-Ms": "1500"}, "slow down"),
    "429-date": (429, {"Retry-After": "DATE"}, "slow down"),
    "500": (500, {}, "it broke"),
    "529": (529, {}, "overloaded"),
    "401": (401, {}, "wrong key"),
    "404": (404, {}, "no such model"),
}
WORDS = ["Light ", "scatters ", "in ", "the ", "air."]


class Answer(NamedTuple):
    """What a test wants the server to say."""

    kind: str
    data: bytes
    status: int = 200
    headers: dict[str, str] = {}  # noqa: RUF012  never changed


class ChatServer(ThreadingHTTPServer):
    """Use it as a context manager; `requests` records the bodies that came in."""

    daemon_threads = True
    request_queue_size = 128  # connections that wait to be taken

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[dict[str, Any]] = []
        self.refusals: dict[str, int] = {}  # of the models busy-N-STATUS, so far
        self.on_request: Callable[[int], object] | None = None  # told how many requests have come, before an answer
        self.services = Services()
        self.answers: dict[str, Answer] = {}  # of models that a test makes up; AUTH in it is the key that came
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def calls(self) -> Counter[str]:
        """Return how often each prompt came."""
        return Counter(str(body["messages"][-1]["content"]) for body in list(self.requests) if body.get("messages"))

    def __enter__(self) -> ChatServer:
        self.thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Readers that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet."""

    def do_GET(self) -> None:
        if "/batches" in self.path or self.path.startswith("/v1/files"):
            self.serve(self.server.services.get(self.path, self.base()))
            return
        if "models" in self.server.answers:
            kind, data, status, headers = self.server.answers["models"]
            self.raw(status, data.replace(b"AUTH", (self.headers["Authorization"] or "").encode()), kind, headers)
            return
        models = [{"id": name, "object": "model", "created": 1, "owned_by": "test"} for name in ("small", "large")]
        self.answer(200, {"object": "list", "data": models})

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if "/batches" in self.path or self.path.startswith("/v1/files"):
            self.serve(self.server.services.post(self.path, self.headers["Content-Type"], data, self.base()))
            return
        body = json.loads(data)
        key = self.headers.get("Authorization") or self.headers["x-api-key"]
        self.server.requests.append(body | {"_key": key, "_path": self.path})
        if self.server.on_request is not None:
            self.server.on_request(len(self.server.requests))
        model = body["model"]
        if self.path == "/api/chat":
            self.native(model, body)
        elif model in self.server.answers:
            kind, data, status, headers = self.server.answers[model]
            headers = {name: value.replace("AUTH", key) for name, value in headers.items()}
            self.raw(status, data.replace(b"AUTH", key.encode()), kind, headers)
        elif model in FAILURES:
            status, headers, message = FAILURES[model]
            if headers.get("Retry-After") == "DATE":
                headers = {"Retry-After": email.utils.formatdate(time.time() + 30, usegmt=True)}
            self.answer(status, {"error": {"message": message, "type": "x"}}, headers)
        elif model.startswith("busy-") and self.is_busy(model):
            self.answer(int(model.rpartition("-")[2]), {"error": {"message": "busy"}}, {"Retry-After-Ms": "10"})
        elif model == "drop" or model.startswith("drop-"):  # drop-N: the first N times
            times = int(model.partition("-")[2] or 10**9)
            if self.server.calls().total() > times:
                self.answer(200, self.completion("echo", body | {"model": "echo"}))
            else:
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
        elif model == "moved":
            self.answer(307, {}, {"Location": "http://127.0.0.1:1/elsewhere"})
        elif model == "context" and self.path.endswith("/messages"):
            self.answer(400, {"error": {"message": "prompt is too long: 9 tokens > 5 maximum", "type": "x"}})
        elif model == "context":
            self.answer(400, {"error": {"message": "too long", "code": "context_length_exceeded"}})
        elif model == "not-json":
            self.raw(200, b"<html>gateway</html>", "application/json")
        elif model == "truncated-json":
            self.raw(200, b'{"choices": [{"message": {"con', "application/json")
        elif model == "no-choices":
            self.answer(200, {"id": "x", "model": model, "choices": []})
        elif self.path.endswith("/messages"):
            self.message(model, body)
        elif body.get("stream") and model != "refuse-stream":
            self.stream(model, body)
        else:
            self.answer(200, self.completion(model, body))

    def base(self) -> str:
        return self.server.url.removesuffix("/v1")

    def serve(self, found: tuple[int, Any] | None) -> None:
        """Answer for a batch service; None is no answer at all."""
        if found is None:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif isinstance(found[1], bytes):
            data, cut = found[1], self.server.services.cut
            self.raw(found[0], data, "application/jsonl", {}, whole=cut is None, cut=cut)
        else:
            self.answer(*found)

    def is_busy(self, model: str) -> bool:
        """Count a refusal; return whether there is one more to come."""
        refused = self.server.refusals.get(model, 0)
        self.server.refusals[model] = refused + 1
        return refused < int(model.split("-")[1])

    def native(self, model: str, body: dict[str, Any]) -> None:
        """Answer as Ollama's own API does: a JSON object a line."""
        if model in FAILURES:
            self.answer(FAILURES[model][0], {"error": "no"})
            return
        words = self.said(body) if body["stream"] else ["".join(self.said(body))]
        if model == "early":
            words = words[:2]
        said = [{"model": model, "message": {"role": "assistant", "content": word}, "done": False} for word in words]
        last = {"model": model, "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}
        figures = {"prompt_eval_count": 11, "eval_count": 7, "total_duration": 5}
        lines = said if model == "early" else [*said, last | figures]
        self.raw(200, "".join(f"{json.dumps(line)}\n" for line in lines).encode(), "application/x-ndjson")

    # Anthropic's messages

    def message(self, model: str, body: dict[str, Any]) -> None:
        blocks: list[dict[str, Any]] = [{"type": "text", "text": word} for word in self.said(body)]
        if model == "tools":
            blocks = [{"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Oslo"}}]
        if model == "reasoning":
            blocks.insert(0, {"type": "thinking", "thinking": "Think first.", "signature": "s"})
        usage = {} if model == "no-usage" else {"usage": ANTHROPIC_USAGE}
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": f"{model}-2026"} | usage
        if body.get("stream") and model != "refuse-stream":
            self.begin_stream()
            self.message_events(model, message, blocks)
        else:
            self.answer(200, message | {"content": blocks, "stop_reason": "end_turn"})

    def message_events(self, model: str, message: dict[str, Any], blocks: list[dict[str, Any]]) -> None:
        first = {"usage": ANTHROPIC_USAGE | {"output_tokens": 1}} if "usage" in message else {}
        self.named("message_start", message=message | {"content": [], "stop_reason": None} | first)
        self.named("ping")
        for i, block in enumerate(blocks):
            if i == 2 and model in ("hang", "reset", "early", "error-event"):
                self.break_off(model)
                return
            empty = {"text": "", "thinking": "", "input": {}}
            self.named(
                "content_block_start", index=i, content_block=block | {k: v for k, v in empty.items() if k in block}
            )
            for delta in _deltas(block):
                self.named("content_block_delta", index=i, delta=delta)
            self.named("content_block_stop", index=i)
            if model == "slow":
                time.sleep(0.2)
        usage = {"usage": {"output_tokens": 7}} if "usage" in message else {}
        self.named("message_delta", delta={"stop_reason": "end_turn"}, **usage)
        if model != "no-done":
            self.named("message_stop")

    def named(self, kind: str, **fields: Any) -> None:
        self.wfile.write(f"event: {kind}\ndata: {json.dumps({'type': kind} | fields)}\n\n".encode())
        self.wfile.flush()

    def answer(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        self.raw(status, json.dumps(value).encode(), "application/json", headers)

    def raw(
        self, status: int, data: bytes, kind: str, headers: dict[str, str] | None = None, *, whole: bool = True,
        cut: int | None = None,
    ) -> None:  # fmt: skip
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("x-request-id", "req-1")
        self.send_header("request-id", "req-1")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data if whole else b"".join(data.splitlines(keepends=True)[:cut]))
        self.close_connection |= not whole

    def said(self, body: dict[str, Any]) -> list[str]:
        if body["model"] == "echo":
            content = body["messages"][-1]["content"]
            return [content if isinstance(content, str) else str(content[0].get("text"))]
        if body["model"] == "long":
            return [f"word{i} " for i in range(2000)]
        return WORDS

    def completion(self, model: str, body: dict[str, Any]) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self.said(body))}
        if model == "tools":
            message = {"role": "assistant", "content": None, "tool_calls": [_call()]}
        if model == "reasoning":
            message["reasoning_content"] = "Think first."
        if model == "reasoning-openrouter":
            message["reasoning"] = "Think first."
        usage = USAGE | ({"cost": 0.00125} if model == "cost" else {})
        done = {
            "id": "x",
            "model": f"{model}-2026",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        }
        return done if model == "no-usage" else done | {"usage": usage}

    def begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("x-request-id", "req-1")
        self.send_header("request-id", "req-1")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def stream(self, model: str, body: dict[str, Any]) -> None:
        self.begin_stream()
        if model in ("reasoning", "reasoning-openrouter"):
            self.event(model, {"reasoning_content" if model == "reasoning" else "reasoning": "Think first."})
        if model == "tools":
            self.call_in_pieces(model)
            return
        for i, word in enumerate(self.said(body)):
            if i == 2 and model in ("hang", "reset", "early", "error-event"):
                self.break_off(model)
                return
            self.event(model, {"content": word})
            if model == "slow":
                time.sleep(0.2)
        self.end(model)

    def event(self, model: str, delta: dict[str, Any], finish: str | None = None, **more: Any) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        self.data({"id": "x", "model": f"{model}-2026", "choices": [choice]} | more)

    def data(self, value: Any) -> None:
        text = value if isinstance(value, str) else json.dumps(value)
        self.wfile.write(f"data: {text}\n\n".encode())
        self.wfile.flush()

    def call_in_pieces(self, model: str) -> None:
        call = _call()
        arguments = call["function"]["arguments"]
        self.event(model, {"tool_calls": [{"index": 0} | call | {"function": {"name": "weather", "arguments": ""}}]})
        for piece in (arguments[:5], arguments[5:]):
            self.event(model, {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
        self.event(model, {}, "tool_calls")
        self.data("[DONE]")

    def break_off(self, model: str) -> None:
        if model == "hang":
            time.sleep(30)
        if model == "error-event":
            self.data({"error": {"message": "the engine died"}})
        if model == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def end(self, model: str) -> None:
        if model == "usage-with-choices":
            self.event(model, {}, "stop", usage=USAGE)
        else:
            self.event(model, {}, None if model == "no-finish" else "stop")
        if model == "cost":
            self.data({"id": "x", "choices": [], "usage": USAGE | {"cost": 0.00125}})
        elif model not in ("no-usage", "usage-with-choices", "no-done"):
            self.data({"id": "x", "choices": [], "usage": USAGE})
        if model != "no-done":
            self.data("[DONE]")


def _deltas(block: dict[str, Any]) -> list[dict[str, Any]]:
    if block["type"] == "tool_use":
        text = json.dumps(block["input"])
        return [{"type": "input_json_delta", "partial_json": piece} for piece in (text[:5], text[5:])]
    if block["type"] == "thinking":
        return [
            {"type": "thinking_delta", "thinking": block["thinking"]},
            {"type": "signature_delta", "signature": "s"},
        ]
    return [{"type": "text_delta", "text": block["text"]}]


def _call() -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
