"""Sending a conversation's prompts again, to the same or another model, on a new branch beside the old answers.

What is replayed is what was said after the snapshot, or, where that is nothing, all that the snapshot has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llmsess import chat, contexts, marking, prices, sessions, writing
from llmsess.db import database
from llmsess.errors import InvalidInput
from llmsess.models import Message, Session, SessionSnapshot
from llmsess.prices import Usage
from llmsess.providers import Turn
from llmsess.retrying import OnWait
from llmsess.routing import Options

Blocks = str | list[Any]


@dataclass(frozen=True)
class Repetition:
    """A prompt to send again: what is put before it without being sent, its old answer, and the options of the turn."""

    before: list[Message]
    prompt: Message
    answer: Message | None
    options: dict[str, Any]


@dataclass(frozen=True)
class ReplayPlan:
    """What a replay would send, and about what it costs: tokens, and nano-USD of those replies whose model has a price.

    `start` is the inner id of the message after which the branch begins, None for its root.
    """

    snapshot: SessionSnapshot
    start: int | None
    turns: list[Repetition]
    models: list[str]
    input_tokens: int
    output_tokens: int
    cost: int
    unpriced: int


@dataclass(frozen=True)
class Replayed:
    """A prompt that was sent again: its old answer, None where it had none, and the new one on the branch."""

    session: Session
    prompt: Message
    old: Message | None
    new: Message


def plan_replay(snapshot: str | SessionSnapshot, *, everything: bool = False, **options: Any) -> ReplayPlan:
    """Return what a replay from a snapshot would send, and about what that costs; nothing is sent or written.

    The prompts that followed the snapshot are sent, with `everything` (or where none followed) those in it. `options`
    are those of `chat.ask()`, for all turns; else each goes as it did before, to the model that answered it. Raises as
    `chat.ask()`, and InvalidInput where there is no prompt.
    """
    with database.atomic("DEFERRED"):  # one moment for all of it
        return _planned(marking.get(snapshot), everything, options)


def _planned(found: SessionSnapshot, everything: bool, options: dict[str, Any]) -> ReplayPlan:
    before = [] if found.head_id is None else writing.ids_to(found.head_id)
    after = [] if everything else _following(found, before)
    start, turns = before, list(_repetitions(writing.stream_messages(after), options))
    if not turns:
        messages = list(writing.stream_messages(before))
        first = next((i for i, message in enumerate(messages) if chat.is_prompt(message)), len(messages))
        start, turns = before[:first], list(_repetitions(messages[first:], options))
    if not turns:
        raise InvalidInput("there is no prompt to send again")
    return _priced(found, start, turns)


def _following(snapshot: SessionSnapshot, before: Sequence[int]) -> list[int]:
    """Return the ids of what followed a snapshot in its session, nothing where the session went another way."""
    head = sessions.by_id(snapshot.session_id).head_id
    present = [] if head is None else writing.ids_to(head)
    return present[len(before) :] if present[: len(before)] == list(before) else []


def _repetitions(messages: Iterable[Message], options: dict[str, Any]) -> Iterator[Repetition]:
    """Yield the prompts to send: each that an answer followed, and the last; what was said before one goes with it."""
    waiting: list[Message] = []  # what was said since the last answer
    answer: Message | None = None
    for message in messages:
        if message.role == "assistant":
            answer = message if any(map(chat.is_prompt, waiting)) else None  # of several, as an agent's, the last
        elif chat.is_prompt(message) or message.role in ("system", "developer"):
            if answer is not None:
                yield _repetition(waiting, answer, options)
                waiting, answer = [], None
            waiting.append(message)
    if any(map(chat.is_prompt, waiting)):
        yield _repetition(waiting, answer, options)


def _repetition(waiting: list[Message], answer: Message | None, options: dict[str, Any]) -> Repetition:
    prompt = [message for message in waiting if chat.is_prompt(message)][-1]
    before = [message for message in waiting if message is not prompt]
    return Repetition(before, prompt, answer, _options(answer, options))


def _options(answer: Message | None, given: dict[str, Any]) -> dict[str, Any]:
    """Return how a turn goes: as it is given, else as it went before."""
    own = {"model": answer.model.reference} if answer is not None and answer.model is not None else {}
    sent = chat.sent_with(answer)
    parameters = dict(sent.get("parameters", {})) | dict(given.get("parameters") or {})
    wanted = {name: value for name, value in given.items() if value is not None}
    return own | sent | wanted | ({"parameters": parameters} if parameters else {})


def _priced(snapshot: SessionSnapshot, start: Sequence[int], turns: list[Repetition]) -> ReplayPlan:
    """Return the plan of these turns with what they cost about: the old answers stand for the new ones."""
    then = marking.settings(snapshot)
    session = Session(**{name: value for name, value in then.items() if name != "model"})
    sizes = [contexts.estimate(None, [Turn(*said)]) for said in (writing.context_to(start[-1]) if start else [])]
    models: set[str] = set()
    figures: list[tuple[int, int, int | None]] = []
    for turn in turns:
        options = Options(**{"model": then["model"]} | turn.options)
        way, request = chat.prepare(options, session, keep=False)
        models.add(way.model.reference)
        sizes += [_size(message) for message in (*turn.before, turn.prompt)]
        count = contexts.last(options.context)
        given = sum(sizes if count is None else sizes[-count - 1 :]) + contexts.estimate(request.system, [])
        sizes.append(_size(turn.answer) if turn.answer is not None else 0)
        taken = (turn.answer and turn.answer.output_tokens) or sizes[-1]
        figures.append((given, taken, prices.price(way.model, Usage(given, output_tokens=taken)).cost))
    return ReplayPlan(
        snapshot,
        start[-1] if start else None,
        turns,
        sorted(models),
        input_tokens=sum(given for given, _, _ in figures),
        output_tokens=sum(taken for _, taken, _ in figures),
        cost=sum(cost or 0 for _, _, cost in figures),
        unpriced=sum(cost is None for _, _, cost in figures),
    )


def _size(message: Message) -> int:
    attached = [block for block in sessions.blocks(message) or [] if block.get("type") in writing.ATTACHED]
    return contexts.estimate(None, [Turn(message.role, message.content, attached)])


def stream_replay(
    plan: ReplayPlan, *, title: str | None = None, on_branch: Callable[[Session], object] | None = None,
    on_wait: OnWait | None = None,
) -> Iterator[Replayed]:  # fmt: skip
    """Make the branch, send the prompts of a plan one after another and yield each with its answers.

    `on_branch` is told the branch before anything is sent. Raises as `chat.ask()`; what was answered stays on it.
    """
    origin = sessions.by_id(plan.snapshot.session_id)
    own = f"{origin.title} (replay)" if origin.title else None
    branch = marking.branch(origin, plan.start, marking.settings(plan.snapshot), title, own)
    if on_branch is not None:
        on_branch(branch)
    for turn in plan.turns:
        for message in turn.before:
            sessions.append(branch, message.role, _said(message), origin=message.origin)
        new = chat.ask(branch, _said(turn.prompt), on_wait=on_wait, **turn.options)
        yield Replayed(branch, turn.prompt, turn.answer, new)


def replay(
    snapshot: str | SessionSnapshot, *, everything: bool = False, title: str | None = None, **options: Any
) -> list[Replayed]:
    """Send the prompts that followed a snapshot (else those in it) again, on a new branch, and return their answers.

    Takes and raises what `plan_replay()` and `chat.ask()` do.
    """
    return list(stream_replay(plan_replay(snapshot, everything=everything, **options), title=title))


def _said(message: Message) -> Blocks:
    """Return what a message says, as it is sent again."""
    return sessions.blocks(message) or message.content
