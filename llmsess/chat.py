"""One turn with a model: written ahead, streamed, settled, and recovered after a crash.

The prompt, a `pending` reply and a row in the ledger `calls` are committed before the request leaves. While the reply
streams, what came so far is committed at least every second or 2 KiB (above 16 KiB: every 1/8 of it). At the end the
reply is settled: `complete`, `interrupted` (Ctrl-C, keeps what came) or `failed` (keeps the prompt and the error). A
killed process leaves `streaming`, which `recover()` turns into `interrupted`. Nothing is retried.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llmsess import catalog, door, owners, providers, sessions, texts
from llmsess.db import TROUBLES, database
from llmsess.errors import Conflict, InvalidInput, MissingKey, NotFound, ProviderError, UnsavedReply
from llmsess.models import Call, LanguageModel, Message, Session, now, parse_time, time_text
from llmsess.providers import Delta, Provider, Reply, Request, Turn
from llmsess.recording import Recorder
from llmsess.rows import get_row, insert_row, update_row
from llmsess.settings import Settings
from llmsess.settling import Outcome, keep_aside, reply_fields, set_status, settled, store
from llmsess.writing import context_to, growing, message_by_id, row_of

OnDelta = Callable[[Delta], None]


@dataclass(frozen=True)
class Options:
    """How a turn is sent; None and {} mean what the session says."""

    model: str | LanguageModel | None = None
    system: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    stream: bool = True
    timeout_s: float = 600.0

    def __post_init__(self) -> None:
        door.temperature(self.temperature)
        door.max_tokens(self.max_tokens)
        object.__setattr__(self, "parameters", door.parameters(self.parameters) or {})


@dataclass(frozen=True)
class Route:
    """Where a turn goes: a stored model, its provider and the key."""

    model: LanguageModel
    provider: Provider
    api_key: str | None


def route(model: str | LanguageModel, *, keep: bool = True) -> Route:
    """Return where turns for the model go; raises InvalidInput, NotFound, MissingKey, MissingExtra.

    A model `provider/name` that is not stored yet is stored only if its provider exists, or is an own server,
    and not at all where it is not to be kept.
    """
    if isinstance(model, str) and "/" in model:
        try:
            stored = catalog.get_model(model)
        except NotFound:
            stored = _new_model(model, keep)
    else:
        stored = catalog.get_model(model)
    provider = providers.get(stored.provider, compatible=stored.base_url is not None)
    own_server = stored.base_url is not None and stored.api_key_env is None
    key, variable = providers.key_for(provider, stored.api_key_env)
    if variable and key is None and not own_server:
        raise MissingKey(stored.reference, variable)
    if key is not None and not (key.isascii() and key.isprintable()):
        raise InvalidInput(f"the key in {variable} has a character that no key has", hint="a line end, perhaps")
    return Route(stored, provider, key)


def _new_model(reference: str, keep: bool) -> LanguageModel:
    """Make a model of a known provider, or of an own server that another model names, and return it."""
    provider, name = catalog.split_reference(reference)
    sibling = catalog.server_of(provider) if provider not in providers.names() else None
    if sibling is None:
        providers.get(provider)
    server = {"base_url": sibling.base_url, "api_key_env": sibling.api_key_env} if sibling else {}
    if keep:
        return catalog.add_model(reference, **server)
    return LanguageModel(provider=provider, model_name=name, **server)


def choose_model(session: Session | None, options: Options) -> str | LanguageModel:
    """Return the model of a turn: the option's, the session's, LLMSESS_MODEL's, the database's default."""
    own = get_row(LanguageModel, session.model_id) if session is not None and session.model_id else None
    chosen = options.model or own or Settings.load().model or catalog.default_model()
    if not chosen:
        usable = ", ".join(providers.usable())
        ways = "-m provider/name, LLMSESS_MODEL, or llmsess model default"
        raise InvalidInput("no model is chosen", hint=f"{ways}; usable here: {usable}")
    return chosen


def prepare(options: Options, session: Session | None = None, *, keep: bool = True) -> tuple[Route, Request]:
    """Return where a turn goes, and its request without turns, checked as far as it can be without sending.

    Raises as `route()`, and InvalidInput.
    """
    way = route(choose_model(session, options), keep=keep)
    request = request_for(way, session, options)
    way.provider.check(request)
    return way, request


# Sending


def ask(session: str | Session, prompt: str, *, on_delta: OnDelta | None = None, **options: Any) -> Message:
    """Send a prompt at the session's head and return the settled reply.

    `options` are the fields of `Options`: model (`provider/name`; the session goes on with it), system, temperature,
    max_tokens, parameters, stream, timeout_s; what differs from the session is kept with the reply. `on_delta` is
    called with each piece as it comes. Raises ProviderError after the failure is recorded, UnsavedReply where the
    database could not take the reply.
    """
    turn = Exchange(sessions.get(session), Options(**options))
    return _drained(turn, turn.run(_prompt(prompt)), on_delta)


def _prompt(prompt: Any) -> str:
    """Return what is to be sent; raises InvalidInput where it says nothing."""
    text = door.text(prompt, "a prompt")
    if not text.strip():
        raise InvalidInput("there is no prompt", hint="a prompt of white space says nothing")
    return text


def stream(session: str | Session, prompt: str, **options: Any) -> Generator[str]:
    """Send a prompt at the session's head and yield the reply's text as it comes; raises as `ask()`, from the first on.

    Closing the generator keeps what came as an interrupted reply.
    """
    for delta in Exchange(sessions.get(session), Options(**options)).run(_prompt(prompt)):
        if delta.text:
            yield delta.text


def retry(
    session: str | Session, at: str | Message | None = None, *, on_delta: OnDelta | None = None, **options: Any
) -> Message:
    """Send the session's last prompt (or the prompt `at`) again and return the new reply, beside the old one.

    Raises as `ask()`, and InvalidInput where there is no prompt to send.
    """
    found = sessions.get(session)
    messages = sessions.path(found, at=at)
    while messages and messages[-1].role != "user":
        messages.pop()
    if not messages:
        raise InvalidInput("there is no prompt to send again")
    turn = Exchange(found, Options(**options))
    return _drained(turn, turn.run(None, after=messages[-1]), on_delta)


def _drained(turn: Exchange, deltas: Generator[Delta], on_delta: OnDelta | None) -> Message:
    with contextlib.closing(deltas):  # an error in on_delta settles the turn too
        for delta in deltas:
            if on_delta is not None:
                on_delta(delta)
    return turn.reply


def once(prompt: str, *, on_delta: OnDelta | None = None, **options: Any) -> Message:
    """Send a prompt without a session, store nothing of it, and return the reply as a message that is no row."""
    way, request = prepare(Options(**options), keep=False)
    created, began, ttft_ms, reply = now(), time.monotonic(), None, None
    with contextlib.closing(way.provider.answer(replace(request, turns=[Turn("user", _prompt(prompt))]))) as items:
        for item in items:
            if isinstance(item, Reply):
                reply = item
                continue
            ttft_ms = round((time.monotonic() - began) * 1000) if ttft_ms is None else ttft_ms
            if on_delta is not None:
                on_delta(item)
    assert reply is not None  # answer() has raised where none came
    figures = {"latency_ms": round((time.monotonic() - began) * 1000), "ttft_ms": ttft_ms, "completed_at": now()}
    said = {"role": "assistant", "origin": "model", "status": "complete", "created_at": created}
    message = row_of(None, said | figures | reply_fields(reply, way.model, now()))
    message.model = way.model
    return message


def request_for(way: Route, session: Session | None, options: Options) -> Request:
    """Return the request without its turns: the option's value, else the session's, else the model's."""

    def pick(name: str, option: Any) -> Any:
        return option if option is not None else getattr(session, name) if session else None

    parameters = dict(way.model.parameters or {}) | dict((session.parameters if session else None) or {})
    return Request(
        model=way.model.model_name,
        turns=(),
        system=pick("system_prompt", options.system),
        temperature=pick("temperature", options.temperature),
        max_tokens=pick("max_tokens", options.max_tokens),
        parameters=parameters | dict(options.parameters),
        stream=options.stream,
        base_url=way.model.base_url,
        api_key=way.api_key,
        timeout_s=options.timeout_s,
    )


_UNSTORABLE: tuple[type[Exception], ...] = (*TROUBLES, Conflict)
_NOTES: dict[type[BaseException], str] = {KeyboardInterrupt: "Ctrl-C", GeneratorExit: "the reader went away"}


def _overrides(session: Session, options: Options) -> dict[str, Any]:
    """Return what a turn is sent with that is not what its session says, to be kept with the reply."""
    given = {"system_prompt": options.system, "temperature": options.temperature, "max_tokens": options.max_tokens}
    changed = {name: value for name, value in given.items() if value not in (None, getattr(session, name))}
    own = session.parameters or {}
    parameters = {name: value for name, value in options.parameters.items() if own.get(name) != value}
    return changed | ({"parameters": parameters} if parameters else {})


class Exchange:
    """One turn of one session; `reply` is its message, settled once `run()` is exhausted."""

    reply: Message

    def __init__(self, session: Session, options: Options) -> None:
        self.session = session
        self.overrides = _overrides(session, options)
        self.way, self.request = prepare(options, session)

    def run(self, prompt: str | None, after: Message | None = None) -> Generator[Delta]:
        """Write ahead, send, yield the deltas, settle. `after` is the stored prompt to answer where prompt is None."""
        request = self.write_ahead(prompt, after)
        recorder = Recorder(self.reply)
        outcome = Outcome("complete", "ok")
        try:
            recorder.start()
            for item in self.way.provider.answer(request):
                if isinstance(item, Reply):
                    outcome.reply = item
                else:
                    recorder.add(item)
                    yield item
        except ProviderError as error:
            outcome = Outcome("failed", "error", error=error)
            raise
        except BaseException as error:  # Ctrl-C, a closed generator, a bug: what came is kept
            outcome = Outcome("interrupted", "cancelled", note=_NOTES.get(type(error), type(error).__name__))
            raise
        finally:
            recorder.stop()
            self.settle(outcome, recorder)

    def write_ahead(self, prompt: str | None, after: Message | None) -> Request:
        """Commit the prompt, the pending reply and the ledger's row; return the request to send."""
        with growing(self.session.id) as end:
            if prompt is not None:
                end.add("user", prompt)
            elif after is not None:
                end.head_id, end.position = sessions.get_message(after).id, after.position  # it may be deleted by now
            turns = [] if end.head_id is None else [Turn(*said) for said in context_to(end.head_id)]
            request = replace(self.request, turns=turns)
            self.reply = end.add(
                "assistant", "", status="pending", model_id=self.way.model.id, owner=owners.me(),
                lease_expires_at=owners.lease(),
            )  # fmt: skip
            self.call_id = insert_row(
                Call, message_id=self.reply.id, owner=owners.me(), request_sha256=request.sha256(), started_at=now()
            )
        return request

    def settle(self, outcome: Outcome, recorder: Recorder) -> None:
        """Commit the end of the turn; where the database cannot take it, keep it in a side file."""
        if owners.me() != self.reply.owner:  # a forked child leaves its parent's reply alone
            return
        message, call = settled(outcome, recorder, self.way.model)
        if self.overrides:
            message["metadata"] = (message.get("metadata") or {}) | {"sent_with": self.overrides}
        try:
            store(self.reply, self.call_id, message, call)
        except _UNSTORABLE as error:
            raise UnsavedReply(str(keep_aside(self.reply.uuid, message)), str(error)) from error
        self.reply.__data__.update(message)


# Recovery

_HELD = "SELECT id, owner, lease_expires_at FROM messages WHERE owner IS NOT NULL"


def recover() -> list[Message]:
    """Turn replies whose process is gone into interrupted ones and return them; a live owner's are never touched."""
    recovered = []
    for row_id, owner, expires in database.execute_sql(_HELD).fetchall():
        if owners.is_gone(owner, parse_time(expires) if expires else None) and _interrupt(row_id, owner):
            recovered.append(message_by_id(row_id))
    return recovered


def _interrupt(message_id: int, owner: str) -> bool:
    with database.atomic():
        try:
            message = message_by_id(message_id)
        except NotFound:
            return False
        if message.owner != owner:  # settled, or recovered by another process, meanwhile
            return False
        moment = now()
        fields = {
            "status": "interrupted", "owner": None, "lease_expires_at": None, "completed_at": moment,
            "error": "the process ended", "content": message.content, "reasoning": message.reasoning,
        }  # fmt: skip
        update_row(Message, message_id, **texts.stored(fields))
        database.execute_sql(
            "UPDATE calls SET outcome = 'unknown', ended_at = ? WHERE message_id = ? AND outcome = 'sent'",
            (time_text(moment), message_id),
        )
        set_status(message.session_id, "interrupted")
    return True
