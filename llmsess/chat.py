"""One turn with a model: written ahead, streamed, settled, and recovered after a crash.

The prompt, a `pending` reply and a row in the ledger `calls` are committed before the request leaves. While the reply
streams, what came so far is committed at least every second or 2 KiB (above 16 KiB: every 1/8 of it). At the end the
reply is settled: `complete`, `interrupted` (Ctrl-C, keeps what came) or `failed` (keeps the prompt and the error). A
killed process leaves `streaming`, which `recover()` turns into `interrupted`. A refused request is sent again
(`retrying`), each attempt a row of the ledger.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llmsess import attachments as files
from llmsess import contexts, crashpoints, door, owners, retrying, schemas, sessions
from llmsess.attachments import Source
from llmsess.db import TROUBLES, database
from llmsess.errors import Conflict, InvalidInput, ProviderError, UnsavedReply, UnusableReply
from llmsess.models import Call, Message, Session, now
from llmsess.providers import Delta, Reply, Request, Turn
from llmsess.recording import Recorder
from llmsess.recovering import recover
from llmsess.retrying import OnWait, Wait
from llmsess.routing import Options, Route, choose_model, overrides, prepare, route
from llmsess.rows import insert_row, update_row
from llmsess.settling import Outcome, call_error, keep_aside, reply_fields, settled, store
from llmsess.writing import growing, row_of

__all__ = [
    "Context", "Exchange", "Options", "ask", "check", "choose_model", "context", "is_prompt", "last_prompt", "once",
    "prepare", "recover", "retry", "route", "sent_with", "stream", "turn_of", "undo",
]  # fmt: skip

OnDelta = Callable[[Delta], None]
Prompt = str | list[Any]  # a text, or a text and what is attached to it as blocks


# Sending


def ask(
    session: str | Session, prompt: Prompt, *, attachments: Sequence[Source] = (),
    on_delta: OnDelta | None = None, on_wait: OnWait | None = None, **options: Any,
) -> Message:  # fmt: skip
    """Send a prompt, a text or blocks (see parts.py), at the session's head and return the settled reply.

    `attachments` are paths, URLs or `Attachment`s. `options` are the fields of `Options`: model (`provider/name`; the
    session goes on with it), system, temperature, max_tokens, parameters, schema, context, retries, stream, timeout_s;
    what differs from the session is kept with the reply. `on_delta` is called with each piece as it comes, `on_wait`
    before a refused request is sent again. An answer that does not fit `schema` is asked for once more. Raises
    ProviderError after the failure is recorded, UnusableReply where even that does not fit, UnsavedReply where the
    database could not take the reply.
    """
    found, said, asked = sessions.get(session), _prompt(prompt, attachments), Options(**options)
    return _fitting(found, asked, on_delta, on_wait, said)


def _fitting(
    session: Session, options: Options, on_delta: OnDelta | None, on_wait: OnWait | None, prompt: Prompt | None,
    **how: Any,
) -> Message:  # fmt: skip
    """Take a turn and return its reply; where it does not fit the schema, ask once more."""
    reply = _drained(Exchange(session, options, on_wait), prompt, on_delta, **how)
    if options.schema is None:
        return reply
    try:
        schemas.value(reply.content, options.schema)
    except UnusableReply as error:
        reply = _drained(Exchange(session, options, on_wait), schemas.correction(error), on_delta, origin="harness")
        schemas.value(reply.content, options.schema, kept_in=session.uuid)
    return reply


def check(prompt: str, *, attachments: Sequence[Source] = (), **options: Any) -> None:
    """Raise what `ask()` would raise for a first prompt before it is sent; nothing is written."""
    asked, turns = Options(**options), [turn_of(prompt, attachments)]
    way, request = prepare(asked, keep=False)
    _check(way, replace(request, turns=turns), asked)


def _check(way: Route, request: Request, options: Options) -> None:
    """Raise InvalidInput where a request is too long, or has what its provider does not take."""
    way.provider.check(request)
    contexts.check(way.model, way.provider, request, options.context)


def _prompt(prompt: Any, attachments: Sequence[Source] = ()) -> Prompt:
    """Return what is to be sent; raises InvalidInput where it says nothing."""
    if isinstance(prompt, list) and prompt:
        return door.content(prompt)
    text = door.text(prompt, "a prompt")
    blocks = [files.load(one).block() for one in attachments]
    if not text.strip() and not blocks:
        raise InvalidInput("there is no prompt", hint="a prompt of white space says nothing")
    said = [{"type": "text", "text": text}] if text.strip() else []
    return [*said, *blocks] if blocks else text


def stream(
    session: str | Session, prompt: str, *, attachments: Sequence[Source] = (), **options: Any
) -> Generator[str]:
    """Send a prompt at the session's head and yield the reply's text as it comes; raises as `ask()`, from the first on.

    Closing the generator keeps what came as an interrupted reply. A schema is sent, but not checked.
    """
    for delta in Exchange(sessions.get(session), Options(**options)).run(_prompt(prompt, attachments)):
        if delta.text:
            yield delta.text


def retry(
    session: str | Session, at: str | Message | None = None, *, on_delta: OnDelta | None = None,
    on_wait: OnWait | None = None, **options: Any,
) -> Message:  # fmt: skip
    """Send the session's last prompt (or the prompt `at`) again and return the new reply, beside the old one.

    It is sent as it was, with the options of the last reply to it, except those that are given. Raises as `ask()`, and
    InvalidInput where there is no prompt to send.
    """
    found = sessions.get(session)
    prompt = last_prompt(found, at)
    if prompt is None:
        raise InvalidInput("there is no prompt to send again")
    before = sent_with(_last_reply(prompt))
    parameters = before.get("parameters", {}) | dict(options.get("parameters", {}))
    given = {name: value for name, value in options.items() if value is not None}
    return _fitting(
        found, Options(**before | given | {"parameters": parameters}), on_delta, on_wait, None, after=prompt
    )


def _last_reply(prompt: Message) -> Message | None:
    replies = Message.select().where((Message.parent == prompt.id) & (Message.role == "assistant"))
    return replies.order_by(Message.id.desc()).first()  # type: ignore[no-any-return]


def sent_with(reply: Message | None) -> dict[str, Any]:
    """Return the options with which a reply was asked for, where they were not its session's."""
    sent = ((reply.metadata or {}) if reply else {}).get("sent_with")
    told = sent if isinstance(sent, dict) and isinstance(sent.get("parameters", {}), dict) else {}
    named = {"system" if name == "system_prompt" else name: value for name, value in told.items()}
    return {name: value for name, value in named.items() if name in Options.__dataclass_fields__}


def last_prompt(session: str | Session, at: str | Message | None = None) -> Message | None:
    """Return the last prompt of a person on a path, None where there is none; a repair's prompt is llmsess's own."""
    return next((message for message in reversed(sessions.path(session, at=at)) if is_prompt(message)), None)


def is_prompt(message: Message) -> bool:
    """Return whether a message is what a person asked."""
    return message.role == "user" and message.origin != "harness"


def undo(session: str | Session) -> Message:
    """Take the last turn back: move the session's head before its last prompt, and return that; all of it stays stored.

    Raises NotFound, InvalidInput where nothing was said.
    """
    with database.atomic():
        found = sessions.get(session)
        prompt = last_prompt(found)
        if prompt is None:
            raise InvalidInput("there is nothing to take back")
        update_row(Session, found.id, head_id=prompt.parent_id)
    return prompt


@dataclass(frozen=True)
class Context:
    """What would go with the next prompt: the model, how many messages, their tokens, and how many the model takes.

    `tokens` is exact or about, `window` None where it is unknown; `last_input_tokens` is what the last request had.
    """

    model: str
    messages: int
    tokens: int
    exact: bool
    window: int | None
    last_input_tokens: int | None


def context(session: str | Session, **options: Any) -> Context:
    """Return what would be sent of the session with its next prompt; raises as `ask()`, and sends nothing."""
    found, asked = sessions.get(session), Options(**options)
    way, request = prepare(asked, found)
    turns = contexts.kept([] if found.head_id is None else contexts.turns_to(found.head_id), asked.context)
    size = contexts.length(way.model, way.provider, replace(request, turns=turns), look_up=True)
    answered = [message.input_tokens for message in sessions.path(found) if message.input_tokens is not None]
    return Context(
        way.model.reference, len(turns), size.tokens, size.exact, size.window, answered[-1] if answered else None
    )


def _drained(turn: Exchange, prompt: Prompt | None, on_delta: OnDelta | None, **how: Any) -> Message:
    with contextlib.closing(turn.run(prompt, **how)) as deltas:  # an error in on_delta settles the turn too
        for delta in deltas:
            if on_delta is not None:
                on_delta(delta)
    return turn.reply


def once(
    prompt: str, *, attachments: Sequence[Source] = (), earlier: Sequence[Turn] = (),
    on_delta: OnDelta | None = None, on_wait: OnWait | None = None, **options: Any,
) -> Message:  # fmt: skip
    """Send a prompt without a session, store nothing of it, and return the reply as a message that is no row.

    `earlier` is what was said before. Takes and raises what `ask()` does.
    """
    asked, turns = Options(**options), [*earlier, turn_of(prompt, attachments)]
    way, request = prepare(asked, keep=False)
    _check(way, replace(request, turns=turns), asked)
    reply = _unstored(way, replace(request, turns=turns), asked, on_delta, on_wait)
    if asked.schema is None:
        return reply
    try:
        schemas.value(reply.content, asked.schema)
    except UnusableReply as error:
        turns += [Turn("assistant", reply.content), Turn("user", schemas.correction(error))]
        reply = _unstored(way, replace(request, turns=turns), asked, on_delta, on_wait)
        schemas.value(reply.content, asked.schema)
    return reply


def turn_of(prompt: str, attachments: Sequence[Source] = ()) -> Turn:
    """Return a prompt with what is attached to it as a turn, for `once(earlier=)`; raises as `ask()`."""
    said = _prompt(prompt, attachments)
    return Turn("user", prompt, None if isinstance(said, str) else said)


def _unstored(
    way: Any, request: Request, options: Options, on_delta: OnDelta | None, on_wait: OnWait | None
) -> Message:
    """Send a request and return its reply as a message that is no row."""
    created, began, ttft_ms, reply = now(), time.monotonic(), None, None
    attempts = retrying.answers(lambda _: way.provider.answer(request), options.retries, on_wait or _ignored)
    with contextlib.closing(attempts) as items:
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


def _ignored(wait: Wait) -> None:
    """Nobody wants to know of the wait."""


_UNSTORABLE: tuple[type[Exception], ...] = (*TROUBLES, Conflict)
_NOTES: dict[type[BaseException], str] = {KeyboardInterrupt: "Ctrl-C", GeneratorExit: "the reader went away"}


class Exchange:
    """One turn of one session; `reply` is its message, settled once `run()` is exhausted."""

    reply: Message
    call_id: int | None  # the ledger's row of the attempt that has no end yet

    def __init__(self, session: Session, options: Options, on_wait: OnWait | None = None) -> None:
        self.session, self.options = session, options
        self.on_wait = on_wait or _ignored
        self.overrides = overrides(session, options)
        self.way, self.request = prepare(options, session)

    def run(self, prompt: Prompt | None, *, after: Message | None = None, origin: str = "human") -> Generator[Delta]:
        """Write ahead, send, yield the deltas, settle. `after` is the stored prompt to answer where prompt is None."""
        request = self.write_ahead(prompt, after, origin)
        recorder = Recorder(self.reply)
        outcome = Outcome("complete", "ok")
        send = functools.partial(self.attempt, request, recorder)
        try:
            crashpoints.reach("turn.written")
            recorder.start()
            for item in retrying.answers(send, self.options.retries, self.refused):
                if isinstance(item, Reply):
                    outcome.reply = item
                    crashpoints.reach("turn.replied")
                else:
                    crashpoints.reach("turn.delta")
                    recorder.add(item)
                    yield item
        except ProviderError as error:
            outcome = Outcome("failed", "error", error=error)
            raise
        except BaseException as error:  # Ctrl-C, a closed generator, a bug: what came is kept
            if outcome.reply is None:
                outcome = Outcome("interrupted", "cancelled", note=_NOTES.get(type(error), type(error).__name__))
            raise
        finally:
            recorder.stop()
            self.settle(outcome, recorder)
            crashpoints.reach("turn.settled")

    def write_ahead(self, prompt: Prompt | None, after: Message | None, origin: str) -> Request:
        """Commit the prompt, the pending reply and the ledger's row; return the request to send.

        What could not be sent, as it is too long or has an odd attachment, is refused, and nothing of it is written.
        """
        with growing(self.session.id) as end:
            if prompt is not None:
                end.add("user", prompt, origin=origin)
            elif after is not None:
                end.head_id, end.position = sessions.get_message(after).id, after.position  # it may be deleted by now
            turns = [] if end.head_id is None else contexts.turns_to(end.head_id, self.options.context)
            request = replace(self.request, turns=turns)
            _check(self.way, request, self.options)
            self.reply = end.add(
                "assistant", "", status="pending", model_id=self.way.model.id, owner=owners.me(),
                lease_expires_at=owners.lease(),
            )  # fmt: skip
            self.call_id = self.begin_call(request, 1)
            crashpoints.reach("turn.writing")
        return request

    def begin_call(self, request: Request, attempt: int) -> int:
        """Write the ledger's row of an attempt and return its id."""
        return insert_row(
            Call, message_id=self.reply.id, attempt=attempt, owner=owners.me(), request_sha256=request.sha256(),
            started_at=now(),
        )  # fmt: skip

    def attempt(self, request: Request, recorder: Recorder, number: int) -> Iterator[Delta | Reply]:
        """Send the request; a further attempt is committed to the ledger first."""
        if number > 1:
            with database.atomic():
                self.call_id = self.begin_call(request, number)
            recorder.restart()
        return self.way.provider.answer(request)

    def refused(self, wait: Wait) -> None:
        """Commit that an attempt was refused, and tell that there will be another."""
        assert self.call_id is not None
        with database.atomic():
            update_row(Call, self.call_id, **call_error(wait.error), outcome="error", ended_at=now())
        self.call_id = None
        crashpoints.reach("turn.waiting")
        self.on_wait(wait)

    def settle(self, outcome: Outcome, recorder: Recorder) -> None:
        """Commit the end of the turn; where the database cannot take it, keep it in a side file."""
        if owners.me() != self.reply.owner:  # a forked child leaves its parent's reply alone
            return
        message, call = settled(outcome, recorder.came(), self.way.model)
        if self.overrides:
            message["metadata"] = (message.get("metadata") or {}) | {"sent_with": self.overrides}
        try:
            self.store(message, call)
        except _UNSTORABLE as error:
            raise UnsavedReply(str(keep_aside(self.reply.uuid, message)), str(error)) from error
        self.reply.__data__.update(message)

    def store(self, message: dict[str, Any], call: dict[str, Any]) -> None:
        """Commit the end of the turn, also where a signal comes in the middle of that."""
        try:
            store(self.reply, self.call_id, message, call)
        except Exception:
            raise
        except BaseException:
            store(self.reply, self.call_id, message, call)
            raise
