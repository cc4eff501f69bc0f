"""The conformance suite every provider passes, and what OpenAI-compatible servers do right and wrong.

A provider is tested by being registered: add its way to be reached to `REACHED`.
"""

from __future__ import annotations

import dataclasses
import json
import socket
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llmsess import chat, db, errors, maintenance, providers, sessions
from llmsess.errors import ProviderError
from llmsess.providers import Delta, Reply, Request, Turn, secrecy
from llmsess.providers.openai import OpenAI
from llmsess.providers.wire import retry_after_s
from tests.conftest import Command
from tests.server import Answer, ChatServer

SDKS = ("openai", "anthropic")
REACHED = {"echo", "scripted", *SDKS}  # providers of the conformance suite; the rest are openai with another address


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "answers.yaml"
    path.write_text("- Light scatters in the air.\n- {content: second, reasoning: hm, usage: {input_tokens: 9}}\n")
    return path


@pytest.fixture(params=sorted(REACHED))
def request_of(request: pytest.FixtureRequest, script: Path, server: ChatServer) -> tuple[str, Request]:
    model = str(script) if request.param == "scripted" else "echo"
    turns = [Turn("user", "Light scatters in the air.")]
    return request.param, Request(model=model, turns=turns, system="be brief", api_key="k")


def whole(name: str, request: Request) -> Reply:
    """Return the reply of a provider, what came before it left out."""
    *_, reply = providers.get(name).answer(request)
    assert isinstance(reply, Reply)
    return reply


def sent(name: str, request: Request) -> tuple[list[Delta], Reply]:
    items = list(providers.get(name).send(request))
    deltas, replies = [i for i in items if isinstance(i, Delta)], [i for i in items if isinstance(i, Reply)]
    assert len(replies) == 1 and isinstance(items[-1], Reply), "one Reply, at the end"
    return deltas, replies[0]


def test_every_back_end_is_in_the_suite() -> None:
    others = {name for name in providers.names() if type(providers.get(name)) is not OpenAI}
    assert others | {"openai"} == REACHED


def test_streamed_deltas_are_the_reply(request_of: tuple[str, Request]) -> None:
    deltas, reply = sent(*request_of)
    assert "".join(delta.text for delta in deltas) == reply.content == "Light scatters in the air."
    assert deltas


def test_unstreamed_is_the_same_reply_without_deltas(request_of: tuple[str, Request]) -> None:
    name, request = request_of
    deltas, reply = sent(name, dataclasses.replace(request, stream=False))
    assert deltas == []
    assert reply.content == "Light scatters in the air."
    assert reply == whole(name, dataclasses.replace(request, stream=False))


def test_tokens_are_known_and_normalised(request_of: tuple[str, Request]) -> None:
    _, reply = sent(*request_of)
    assert reply.input_tokens is not None and reply.output_tokens is not None
    assert (reply.cached_input_tokens or 0) <= reply.input_tokens
    assert (reply.reasoning_tokens or 0) <= reply.output_tokens
    assert reply.usage
    assert reply.finish_reason in ("stop", "end_turn")


def test_a_key_is_in_no_text_of_a_request(request_of: tuple[str, Request]) -> None:
    _, request = request_of
    secret = dataclasses.replace(request, api_key="sk-secret")
    assert "sk-secret" not in repr(secret)
    assert secret.sha256() == request.sha256()


def test_the_hash_tells_requests_apart(request_of: tuple[str, Request]) -> None:
    _, request = request_of
    assert dataclasses.replace(request, temperature=0.5).sha256() != request.sha256()
    assert dataclasses.replace(request, stream=False).sha256() == request.sha256()


CONFORMANCE = (
    test_streamed_deltas_are_the_reply,
    test_unstreamed_is_the_same_reply_without_deltas,
    test_tokens_are_known_and_normalised,
    test_a_key_is_in_no_text_of_a_request,
    test_the_hash_tells_requests_apart,
)


def test_unknown_providers_are_told_with_a_guess() -> None:
    with pytest.raises(errors.InvalidInput, match='did you mean "ollama"'):
        providers.get("olama")
    assert isinstance(providers.get("my-lab", compatible=True), OpenAI)


# Scripted


def scripted(path: Path, *prompts: str) -> Reply:
    turns = [Turn("user", prompt) for prompt in prompts]
    return whole("scripted", Request(model=str(path), turns=turns))


def test_scripted_answers_turns_in_order_and_prompts_by_name(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    entries: list[object] = [
        "first",
        {"prompt": "ping", "content": "pong"},
        {"match": "^weather", "content": "rain", "cost_usd": "0.5"},
    ]
    path.write_text("\n".join(map(json.dumps, [*entries, "second"])))
    assert scripted(path, "a").content == "first"
    assert scripted(path, "a", "b").content == "second"
    assert scripted(path, "ping").content == "pong"
    assert str(scripted(path, "weather in Oslo").cost_usd) == "0.5"
    with pytest.raises(ProviderError, match="no answer for turn 3"):
        scripted(path, "a", "b", "c")


def test_scripted_failures(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "- {content: one two three, error: {kind: rate_limit, status: 429, retry_after_s: 3, after_words: 2}}\n"
    )
    seen = []
    with pytest.raises(ProviderError) as caught:
        for item in providers.get("scripted").send(Request(model=str(path), turns=[Turn("user", "x")])):
            seen.append(item)
    assert [item.text for item in seen if isinstance(item, Delta)] == ["one ", "two "]
    assert (caught.value.http_status, caught.value.retry_after_s, caught.value.billed) == (429, 3, True)


@pytest.mark.parametrize(
    "text",
    [
        "{a: 1}", "- [1]", "- 'unclosed", "\xff", "[" * 5_000, "- {delay_s: abc}", "- {delay_s: -1}", "- {delay_s: .nan}",
        "- {delay_s: 1e300}", "- {chunk_delay_s: []}", "- {error: boom}", "- {error: [1]}", "- {error: {after_words: abc}}",
        "- {error: {status: 99999999999999999999}}", "- {match: '('}", "- {match: 5}", "- {usage: 5}", "- {usage: {input_tokens: abc}}",
        "- {usage: {input_tokens: .inf}}", "- {usage: {input_tokens: -5}}", "- {usage: {other: 5}}", "- {cost_usd: abc}",
        "- {cost_usd: 1e30}", "- {cost_usd: NaN}", "- {cost_usd: -5}", "- {reasoning: [1]}", "- {finish_reason: 5}",
        "- {content: [1]}", "- {typo: x}",
    ],
)  # fmt: skip
def test_a_script_that_is_none_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(errors.InvalidInput, match="script"):
        scripted(path, "x")
    with pytest.raises(errors.InvalidInput, match="cannot be read"):
        scripted(tmp_path / "absent.yaml", "x")


# Providers that stand on an SDK


@pytest.fixture(params=SDKS)
def sdk(request: pytest.FixtureRequest) -> str:
    """The name of a provider that stands on an SDK."""
    return str(request.param)


def request_to(name: str, server: ChatServer, model: str, **more: Any) -> Request:
    url = server.url if name == "openai" else server.url.removesuffix("/v1")
    return Request(model=model, turns=[Turn("user", "hi")], base_url=url, api_key="sk-1", **more)


def ask(server: ChatServer, model: str, *, name: str = "openai", stream: bool = True, timeout_s: float = 30) -> Reply:
    more = {"max_tokens": 5, "temperature": 0.1, "parameters": {"seed": 3}}
    return whole(name, request_to(name, server, model, stream=stream, timeout_s=timeout_s, **more))


@pytest.mark.parametrize("model", ["usage-last-chunk", "usage-with-choices", "no-done"])
@pytest.mark.parametrize("stream", [True, False])
def test_usage_wherever_it_comes(server: ChatServer, model: str, stream: bool) -> None:
    reply = ask(server, model, stream=stream)
    assert reply.content == "Light scatters in the air."
    tokens = (reply.input_tokens, reply.cached_input_tokens, reply.output_tokens, reply.reasoning_tokens)
    assert tokens == ((None,) * 4 if model == "no-done" and stream else (11, 4, 7, 2))
    assert reply.request_id == "req-1"
    assert reply.model == f"{model}-2026"


@pytest.mark.parametrize("stream", [True, False])
def test_absent_usage_is_unknown(server: ChatServer, sdk: str, stream: bool) -> None:
    reply = ask(server, "no-usage", name=sdk, stream=stream)
    assert (reply.input_tokens, reply.output_tokens, reply.usage) == (None, None, None)


def test_the_request_says_what_was_asked(server: ChatServer) -> None:
    ask(server, "usage-last-chunk")
    [body] = server.requests
    assert body["messages"] == [{"role": "user", "content": "hi"}]
    assert (body["temperature"], body["seed"], body["max_completion_tokens"]) == (0.1, 3, 5)
    assert body["stream_options"] == {"include_usage": True}
    assert body["_key"] == "Bearer sk-1"


def test_a_stream_without_finish_reason_that_says_done_is_whole(server: ChatServer) -> None:
    assert ask(server, "no-finish").content == "Light scatters in the air."


@pytest.mark.parametrize("stream", [True, False])
def test_tool_calls(server: ChatServer, sdk: str, stream: bool) -> None:
    [call] = ask(server, "tools", name=sdk, stream=stream).tool_calls
    assert call == {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Oslo"}}


@pytest.mark.parametrize(
    ("name", "model"), [("openai", "reasoning"), ("openai", "reasoning-openrouter"), ("anthropic", "reasoning")]
)
@pytest.mark.parametrize("stream", [True, False])
def test_reasoning_under_every_name(server: ChatServer, name: str, model: str, stream: bool) -> None:
    reply = ask(server, model, name=name, stream=stream)
    assert (reply.reasoning, reply.content) == ("Think first.", "Light scatters in the air.")


@pytest.mark.parametrize("stream", [True, False])
def test_a_reported_cost_is_taken(server: ChatServer, stream: bool) -> None:
    assert str(ask(server, "cost", stream=stream).cost_usd) == "0.00125"


def test_a_server_that_does_not_stream_is_read_whole(server: ChatServer, sdk: str) -> None:
    assert ask(server, "refuse-stream", name=sdk).content == "Light scatters in the air."


@pytest.mark.parametrize(
    ("model", "kind", "status", "retryable", "billed"),
    [
        ("401", "auth", 401, False, False),
        ("404", "not_found", 404, False, False),
        ("429-seconds", "rate_limit", 429, True, False),
        ("500", "server", 500, True, True),
        ("529", "overloaded", 529, True, False),
        ("context", "context_length", 400, False, False),
        ("moved", "bad_request", 307, False, False),
        ("not-json", "bad_response", 200, False, True),
        ("truncated-json", "bad_response", 200, False, True),
        ("no-choices", "bad_response", 200, False, True),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_failures(
    server: ChatServer, sdk: str, model: str, kind: str, status: int, retryable: bool, billed: bool, stream: bool
) -> None:
    with pytest.raises(ProviderError) as caught:
        ask(server, model, name=sdk, stream=stream)
    error = caught.value
    assert (error.error_kind, error.http_status, error.retryable, error.billed) == (kind, status, retryable, billed)
    assert "\n" not in str(error)
    assert "sk-1" not in str(error)
    assert len(server.requests) == 1, "nothing is retried"


@pytest.mark.parametrize(
    ("model", "kind"), [("reset", "connection"), ("early", "truncated"), ("error-event", "server")]
)
def test_streams_that_break(server: ChatServer, sdk: str, model: str, kind: str) -> None:
    seen = []
    with pytest.raises(ProviderError) as caught:
        for item in providers.get(sdk).send(request_to(sdk, server, model)):
            seen.append(item)
    assert caught.value.error_kind == kind
    assert caught.value.billed
    assert [item.text for item in seen if isinstance(item, Delta)] == ["Light ", "scatters "]


HUGE = 10**400
ODD_VALUES: list[Any] = [
    None,
    0,
    -1,
    1.5,
    HUGE,
    float("nan"),
    True,
    "",
    "x",
    "\ud83d",
    [],
    [1],
    ["x"],
    {},
    {"a": 1},
    [[]],
    [{}],
    [None],
]
ODD_PLACES: list[Callable[[Any], Any]] = [
    lambda odd: odd,
    lambda odd: {"choices": odd},
    lambda odd: {"choices": [{"message": odd, "delta": odd}]},
    lambda odd: {"choices": [{"message": {"content": odd}, "delta": {"content": odd}, "finish_reason": "stop"}]},
    lambda odd: {"choices": [{"message": {"content": "x"}, "delta": {"content": "x"}, "finish_reason": odd}]},
    lambda odd: {"choices": [{"message": {"reasoning": odd}, "delta": {"reasoning": odd}, "finish_reason": "stop"}]},
    lambda odd: {"choices": [{"message": {"refusal": odd}, "delta": {"refusal": odd}, "finish_reason": "stop"}]},
    lambda odd: {"choices": [{"message": {"tool_calls": odd}, "delta": {"tool_calls": odd}, "finish_reason": "stop"}]},
    lambda odd: _calling({"index": odd}),
    lambda odd: _calling({"id": odd}),
    lambda odd: _calling({"function": odd}),
    lambda odd: _calling({"function": {"name": odd}}),
    lambda odd: _calling({"function": {"arguments": odd}}),
    lambda odd: _whole({"usage": odd}),
    lambda odd: _whole({"usage": {"prompt_tokens": odd, "completion_tokens": odd, "cost": odd}}),
    lambda odd: _whole({"usage": {"prompt_tokens_details": odd, "completion_tokens_details": odd}}),
    lambda odd: _whole({"usage": {"prompt_tokens_details": {"cached_tokens": odd}}}),
    lambda odd: _whole({"model": odd, "id": odd}),
    lambda odd: _whole({"error": odd}),
    lambda odd: _whole({"error": {"message": odd}}),
]  # fmt: skip


ODD_MESSAGES: list[Callable[[Any], Any]] = [
    lambda odd: odd,
    lambda odd: _event("message_start", message=odd),
    lambda odd: _message({"usage": odd}),
    lambda odd: _message({"usage": {"input_tokens": odd, "output_tokens": odd, "cache_read_input_tokens": odd}}),
    lambda odd: _message({"model": odd, "id": odd, "type": odd}),
    lambda odd: _message({"content": odd, "stop_reason": odd}),
    lambda odd: _message({"content": [odd]}),
    lambda odd: _message({"content": [{"type": "text", "text": odd}, {"type": "thinking", "thinking": odd}]}),
    lambda odd: _message({"content": [{"type": "tool_use", "id": odd, "name": odd, "input": odd}]}),
    lambda odd: _event("content_block_start", index=odd, content_block=odd),
    lambda odd: _event("content_block_start", index=odd, content_block={"type": "tool_use", "input": odd}),
    lambda odd: _event("content_block_delta", index=odd, delta=odd),
    lambda odd: _event("content_block_delta", index=0, delta={"type": "text_delta", "text": odd}),
    lambda odd: _event("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": odd}),
    lambda odd: _event("message_delta", delta=odd, usage=odd),
    lambda odd: _event("error", error=odd),
    lambda odd: {"type": odd},
]  # fmt: skip


def _event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind} | fields


def _message(more: dict[str, Any]) -> dict[str, Any]:
    """Return a message that is an event and a whole answer at once."""
    said = {
        "type": "message",
        "model": "m",
        "content": [{"type": "text", "text": "x"}],
        "stop_reason": "end_turn",
    } | more
    return said | {"message": said} | ({"type": "message_start"} if more.get("type") is None else {})


def _whole(more: dict[str, Any]) -> dict[str, Any]:
    return {"choices": [{"message": {"content": "x"}, "delta": {"content": "x"}, "finish_reason": "stop"}]} | more


def _calling(call: dict[str, Any]) -> dict[str, Any]:
    calls = {"tool_calls": [call]}
    return {"choices": [{"message": calls, "delta": calls, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    ("name", "place"),
    [
        (name, place)
        for name, places in (("openai", ODD_PLACES), ("anthropic", ODD_MESSAGES))
        for place in range(len(places))
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_an_odd_answer_is_stored_as_a_reply_or_as_a_failure(
    server: ChatServer, database: db.Database, name: str, place: int, stream: bool
) -> None:
    session = sessions.create("odd", model=f"{name}/odd")
    start, end = "", "data: [DONE]\n\n"
    if name == "anthropic":
        start = 'data: {"type":"message_start","message":{"model":"m"}}\n\n'
        end = 'data: {"type":"message_delta","delta":{"stop_reason":"end"}}\n\ndata: {"type":"message_stop"}\n\n'
    for odd in ODD_VALUES:
        text = json.dumps((ODD_PLACES if name == "openai" else ODD_MESSAGES)[place](odd))
        kind = "text/event-stream" if stream else "application/json"
        body = f"{start}data: {text}\n\n{end}" if stream else text
        server.answers["odd"] = Answer(kind, body.encode())
        try:
            reply = chat.ask(session, "hi", stream=stream)
            assert reply.status == "complete"
            assert (reply.input_tokens or 0) >= 0
        except ProviderError as error:
            assert "\n" not in str(error)
            assert sessions.path(session)[-1].status == "failed"
    assert maintenance.check().findings == []


def test_a_character_split_over_two_pieces_is_put_together(server: ChatServer) -> None:
    pieces = ["a\ud83d", "\ude00b", "\ud83d", "c"]
    events = [json.dumps({"choices": [{"delta": {"content": piece}}]}) for piece in pieces]
    server.answers["split"] = Answer(
        "text/event-stream", "".join(f"data: {e}\n\n" for e in [*events, "[DONE]"]).encode()
    )
    assert ask(server, "split").content == "a😀b\ufffdc"


SSE, JSON = "text/event-stream", "application/json"
DEEP = "[" * 100_000
HOSTILE: dict[str, Answer] = {
    "deep event": Answer(SSE, f"data: {DEEP}\n\n".encode()),
    "deep body": Answer(JSON, DEEP.encode()),
    "deep value": Answer(JSON, json.dumps(_whole({"usage": {"a": eval("[" * 90 + "1" + "]" * 90)}})).replace("[1]", "[" * 300 + "1" + "]" * 300).encode()),
    "no gzip": Answer(JSON, b"{}", headers={"Content-Encoding": "gzip"}),
    "no gzip in a failure": Answer(JSON, b"{}", 500, {"Content-Encoding": "gzip"}),
    "charset hex": Answer("text/event-stream; charset=hex", b"data: x\n\n"),
    "charset hex in a failure": Answer("text/plain; charset=hex", b"x", 500),
    "charset undefined": Answer("application/json; charset=undefined", b"{}"),
    "empty": Answer(JSON, b""),
    "html": Answer("text/html", b"<html>gateway</html>", 502),
    "endless line": Answer(SSE, b"data: " + b"x" * (33 * 1024 * 1024)),
    "retry in the year 99999": Answer(JSON, b"{}", 429, {"Retry-After": "Wed, 21 Oct 99999 07:28:00 GMT"}),
    "retry of nonsense": Answer(JSON, b"{}", 429, {"Retry-After": "nan, or so"}),
    "no utf-8": Answer(SSE, b"data: \xff\xfe\n\n"),
    "redirect": Answer(JSON, b"", 302, {"Location": "/elsewhere"}),
}  # fmt: skip


@pytest.mark.parametrize("label", HOSTILE)
@pytest.mark.parametrize("stream", [True, False])
def test_a_hostile_answer_is_a_failure_in_one_line(
    server: ChatServer, database: db.Database, sdk: str, label: str, stream: bool
) -> None:
    server.answers["hostile"] = HOSTILE[label]
    session = sessions.create("x", model=f"{sdk}/hostile")
    with pytest.raises(ProviderError) as caught:
        chat.ask(session, "hi", stream=stream, retries=0)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    assert sessions.path(session)[-1].status == "failed"


@pytest.mark.parametrize(
    "data",
    [b'{"data":[{"id":5},{"id":"a"}]}', b'{"data":5}', b"[]", b"null", b"<html>", b"", b'{"data":[null]}', DEEP.encode(), b"\xff"],
    ids=range(9),
)  # fmt: skip
def test_an_odd_list_of_models_is_one_line_or_what_it_names(server: ChatServer, sdk: str, data: bytes) -> None:
    server.answers["models"] = Answer(JSON, data)
    try:
        assert set(providers.get(sdk).models(base_url=server.url.removesuffix("/v1"), api_key="k")) <= {"a"}
    except ProviderError as error:
        assert "\n" not in str(error)


KEY = "sk-test-0123456789abcdef"
ECHOES = {
    "error": Answer(JSON, b'{"error":{"message":"bad key: AUTH"}}', 401),
    "html": Answer("text/html", b"<p>AUTH</p>", 500),
    "no json": Answer(JSON, b"AUTH is no JSON"),
    "event": Answer(SSE, b'data: {"error":{"message":"AUTH"}}\n\n'),
    "request id": Answer(JSON, json.dumps(_whole({})).encode(), 200, {"x-request-id": "AUTH"}),
    "reply": Answer(SSE, b'data: {"choices":[{"delta":{"content":"AUTH"},"finish_reason":"stop"}],"usage":{"AUTH":1},"model":"AUTH"}\n\n'),
    "message": Answer(SSE, b'data: {"type":"message_start","message":{"model":"AUTH","usage":{"AUTH":1}}}\n\n'
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"AUTH"}}\n\n'
        b'data: {"type":"message_delta","delta":{"stop_reason":"AUTH"}}\n\ndata: {"type":"message_stop"}\n\n'),
    "models": Answer(JSON, b"AUTH"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("sdk", "label"),
    [*(("openai", label) for label in ECHOES if label != "message"),
     *(("anthropic", label) for label in ("error", "html", "no json", "message", "models"))],
)  # fmt: skip
def test_a_key_that_a_server_repeats_is_neither_kept_nor_shown(
    server: ChatServer, path: Path, process: Command, sdk: str, label: str
) -> None:
    key = KEY if sdk == "openai" else "sk-ant-test-0123456789abcdef"
    server.answers[label] = ECHOES[label]
    args = ["model", "list", "--remote", sdk] if label == "models" else ["chat", "hi", "-m", f"{sdk}/{label}"]
    shown = ""
    for more in ([], ["--json"], ["--json", "--no-store"] if label != "models" else []):
        logging = {} if label == "request id" else {"OPENAI_LOG": "debug", "ANTHROPIC_LOG": "debug"}
        ran = process("--debug", *args, *more, **logging)
        shown += ran.out + ran.err
    shown += process("show", "@last", "--json").out
    assert key not in shown
    assert ("[key]" in shown) or label == "request id"
    for file in path.parent.glob("test.db*"):
        assert key.encode() not in file.read_bytes()


@pytest.mark.parametrize("stream", [True, False])
def test_anthropics_input_includes_what_was_cached(server: ChatServer, stream: bool) -> None:
    reply = ask(server, "usage", name="anthropic", stream=stream)
    tokens = (reply.input_tokens, reply.cached_input_tokens, reply.cache_write_tokens, reply.output_tokens)
    assert (*tokens, reply.reasoning_tokens) == (11, 4, 2, 7, 2)
    assert reply.usage is not None and reply.usage["input_tokens"] == 5
    assert (reply.finish_reason, reply.model, reply.request_id) == ("end_turn", "usage-2026", "req-1")


def test_what_anthropic_is_sent(server: ChatServer) -> None:
    turns = [Turn("system", "Old."), Turn("user", "hi"), Turn("assistant", " "), Turn("user", "again")]
    request = request_to("anthropic", server, "usage", system="Be terse.", schema={"type": "object"})
    whole("anthropic", dataclasses.replace(request, turns=turns))
    [body] = server.requests
    assert body["system"] == "Be terse.\n\nOld."
    assert [(message["role"], message["content"]) for message in body["messages"]] == [
        ("user", "hi"),
        ("user", "again"),
    ]
    assert body["max_tokens"] == 16_384 and "temperature" not in body
    assert body["output_config"]["format"]["schema"]["additionalProperties"] is False
    assert (body["_key"], body["_path"]) == ("Bearer sk-1", "/v1/messages")


def test_a_hanging_server_times_out(server: ChatServer, sdk: str) -> None:
    began = time.monotonic()
    with pytest.raises(ProviderError) as caught:
        ask(server, "hang", name=sdk, timeout_s=0.5)
    assert caught.value.error_kind == "timeout"
    assert time.monotonic() - began < 5


def test_a_server_that_is_down_is_told(server: ChatServer, sdk: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    request = Request(model="x", turns=[Turn("user", "hi")], base_url=f"http://127.0.0.1:{port}/v1", api_key="k")
    with pytest.raises(ProviderError, match="is the server running") as caught:
        whole(sdk, request)
    assert (caught.value.error_kind, caught.value.billed, caught.value.exit_code) == ("connection", False, 4)


def test_models_of_a_server(server: ChatServer, sdk: str) -> None:
    url = request_to(sdk, server, "x").base_url
    assert providers.get(sdk).list_models(base_url=url, api_key="k") == ["large", "small"]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "-3"}, 0),
        ({}, None),
        ({"retry-after": "soon"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers) == seconds


def test_retry_after_as_a_date(server: ChatServer) -> None:
    with pytest.raises(ProviderError) as caught:
        ask(server, "429-date")
    assert caught.value.retry_after_s is not None and 20 < caught.value.retry_after_s <= 31


def test_a_missing_sdk_is_one_line(tmp_path: Path) -> None:
    import subprocess
    import sys

    (tmp_path / "openai.py").write_text("raise ImportError('not here')")
    broken = f"sys.path.insert(0, {str(tmp_path)!r}); next(providers.get('openai').answer(providers.Request('m', [])))"
    absent = """
import os
import pathlib
folder = pathlib.Path(next(path for path in sys.path if path.endswith("site-packages")))
for entry in folder.iterdir():
    if not entry.name.startswith("anthropic"):
        os.symlink(entry, os.path.join(sys.argv[1], entry.name))
sys.path = [path for path in sys.path if path != str(folder)] + [sys.argv[1]]
providers.get("anthropic")
"""
    (tmp_path / "packages").mkdir()
    for code in (broken, absent):
        command = [
            sys.executable,
            "-c",
            f"import sys; from llmsess import providers; {code}",
            str(tmp_path / "packages"),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        assert "pip install 'llmsess[providers]'" in done.stderr


ODD_FIGURES: dict[str, Any] = {
    "reasoning": 5, "tool_calls": [{"type": "tool_use", "id": "1", "name": "f", "input": {"d": Decimal("0.1")}}], "finish_reason": ["stop"],
    "input_tokens": -1, "output_tokens": "7", "usage": {"cost": Decimal("0.5")}, "cost_usd": Decimal("NaN"), "model": 3,
}  # fmt: skip


class Odd(providers.Provider):
    """A third party's provider that answers well and counts badly."""

    def send(self, request: Request) -> Iterator[Delta | Reply]:
        yield Reply("paid for", **ODD_FIGURES)


def test_a_third_partys_odd_figures_do_not_cost_its_reply(
    database: db.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(providers._TABLE, "odd", (f"{__name__}:Odd", None, None))
    reply = chat.ask(sessions.create("x", model="odd/x"), "hi")
    assert (reply.content, reply.status, reply.input_tokens, reply.cost) == ("paid for", "complete", None, None)
    assert sessions.path("@last")[-1].usage == {"cost": "0.5"}
    assert maintenance.check().findings == []


class Silent(providers.Provider):
    """A third party's provider that says something and never ends."""

    def send(self, request: Request) -> Iterator[Delta | Reply]:
        yield Delta(text="half a")


def test_a_reply_that_never_ends_is_a_failure_with_what_came(
    database: db.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(providers._TABLE, "silent", (f"{__name__}:Silent", None, None))
    session = sessions.create("x", model="silent/x")
    with pytest.raises(ProviderError, match="the reply never ended"):
        chat.ask(session, "hi")
    assert [(m.status, m.content) for m in sessions.path(session)] == [("complete", "hi"), ("failed", "half a")]
    with pytest.raises(ProviderError, match="the reply never ended"):
        chat.once("hi", model="silent/x")


# Keys that are cut in two, and what else an attacker found


@pytest.mark.parametrize("cut", range(1, 20))
def test_a_key_in_two_pieces_is_neither_shown_nor_kept(cut: int) -> None:
    key, said = "sk-0123456789abcdefg", []
    pieces = secrecy.Pieces(key)
    for piece in (f"it is {key[:cut]}", f"{key[cut:]}, and s", "k", "-", "012 is none"):
        said.append(pieces.take(piece))
    assert "".join(said) + pieces.rest() == "it is [key], and sk-012 is none"


def test_pieces_without_a_key_pass_at_once() -> None:
    for key in (None, "", "short"):
        assert secrecy.Pieces(key).take("short sk-") == "short sk-"


@pytest.mark.parametrize("provider", SDKS)
def test_a_server_that_spells_the_key_out_gets_nothing_shown(
    server: ChatServer, database: db.Database, provider: str
) -> None:
    shown: list[str] = []

    def event(text: str) -> dict[str, Any]:
        if provider == "openai":
            return {"choices": [{"index": 0, "delta": {"content": text}}]}
        return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}

    body = "".join(f"data: {json.dumps(event(text))}\n\n" for text in [*"sk-openai", "END"])
    server.answers["spells"] = Answer("text/event-stream", body.encode())
    asked = Request(model="spells", turns=[Turn("user", "x")], api_key="sk-openai", base_url=None)
    with pytest.raises(ProviderError):  # it never says that it has ended
        for item in providers.get(provider).answer(asked):
            assert isinstance(item, Delta)
            shown.append(item.text)
    assert "".join(shown) == "[key]END"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after-ms": "-inf"}, None),
        ({"retry-after": "1e400"}, None),
        ({"retry-after": "-5"}, 0.0),
    ],
)
def test_a_wait_that_cannot_be_is_none(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers) == seconds


def test_a_password_in_an_address_is_refused_and_not_shown(
    server: ChatServer, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL"):
        monkeypatch.setenv(name, "http://u:pw123456@127.0.0.1:1/v1")
    for provider in SDKS:
        for args in (["chat", "hi", "-m", f"{provider}/x"], ["model", "list", "--remote", provider]):
            done = run(*args)
            assert done.status == 2 and "pw123456" not in done.out + done.err
    assert run("list", "--json").out == "[]\n"


def test_a_list_of_models_needs_the_key_that_a_turn_needs(run: Command) -> None:
    done = run("model", "list", "--remote", "openai")
    assert done.status == 4 and "OPENAI_API_KEY" in done.err


def test_a_stream_of_nothing_but_comments_ends(server: ChatServer) -> None:
    server.answers["comments"] = Answer("text/event-stream", b": still here\n\n" * 1000)
    asked = Request(model="comments", turns=[Turn("user", "x")], api_key="k" * 9, timeout_s=0.0001)
    with pytest.raises(ProviderError) as caught:
        list(providers.get("openai").answer(asked))
    assert caught.value.error_kind == "timeout"


def test_a_json_script_is_json(tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    path.write_text(json.dumps([{"content": "rocket \U0001f680"}]))
    assert scripted(path, "x").content == "rocket \U0001f680"
