"""Sessions that exist already become cells of a comparison: the last answer of each, to what was said before it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from llmsess import sessions
from llmsess.comparisons import planning, viewing
from llmsess.comparisons.cases import Case
from llmsess.comparisons.specs import Variant, name_of
from llmsess.db import database
from llmsess.errors import Conflict, InvalidInput, NotFound
from llmsess.models import ComparisonGroup, ComparisonSession, Message, Session
from llmsess.rows import insert_row


@dataclass(frozen=True)
class Linked:
    """What linking came to: sessions that are new to the comparison, and those that it had or that have no answer."""

    group: ComparisonGroup
    new: int
    known: int
    unanswered: tuple[str, ...]


def add(name: str, references: Iterable[str | Session], *, variant: str | None = None) -> Linked:
    """Link sessions to a comparison, made where there is none of that name, and return what that came to.

    `variant` is whose answers they are, else the model that answered. Sessions that say the same before the answer are
    of one case; another one of the same variant is its next repeat. Linking one again changes nothing. Raises NotFound,
    InvalidInput, Conflict.
    """
    found = [sessions.get(one) for one in references]
    if not found:
        raise InvalidInput("no session is named")
    new, unanswered = 0, []
    with database.atomic():
        group = _group(name)
        for session in found:
            said = _said(session)
            if said is None:
                unanswered.append(session.uuid)
                continue
            new += _link(group, session, said[0], said[1], variant)
    return Linked(viewing.get(group.uuid), new, len(found) - new - len(unanswered), tuple(unanswered))


def _group(name: str) -> ComparisonGroup:
    try:
        return viewing.get(name)
    except NotFound:
        found: ComparisonGroup = ComparisonGroup.get_by_id(planning.new_group(name_of(name), status="done"))
        return found


def _said(session: Session) -> tuple[list[Message], Message] | None:
    """Return what was said before the last answer of a session, and that answer; None where it has none."""
    path = sessions.path(session)
    for place in range(len(path) - 1, -1, -1):
        if path[place].role == "assistant" and path[place].status == "complete":
            return path[:place], path[place]
    return None


def _case(before: list[Message]) -> Case:
    """Return the case that a conversation up to an answer is."""
    if len(before) == 1 and before[0].role == "user":
        case = Case({"prompt": before[0].content})
    else:
        case = Case({}, [{"role": message.role, "content": message.content} for message in before])
    return replace(case, key=case.hash())


_THERE = """
    SELECT count(*), count(CASE WHEN message_id = ? THEN 1 END) FROM comparison_sessions
    WHERE group_id = ? AND variant = ? AND case_key = ?
"""


def _link(
    group: ComparisonGroup, session: Session, before: list[Message], answer: Message, variant: str | None
) -> bool:  # fmt: skip
    case, name = _case(before), variant or _model(answer, session)
    known = {one.name: one for one in viewing.variants_of(group)}
    if name not in known:
        planning.enter_variant(group, Variant(name, None), len(known))
    elif known[name].model is not None:
        raise Conflict(f'the variant "{name}" of "{group.name}" is asked itself', hint="--variant gives another name")
    there, same = database.execute_sql(_THERE, (answer.id, group.id, name, case.key)).fetchone()
    if same:
        return False
    planning.add_case(group, case)
    insert_row(
        ComparisonSession, group_id=group.id, session_id=session.id, message_id=answer.id, variant=name,
        case_key=case.key, repeat=there,
    )  # fmt: skip
    return True


def _model(answer: Message, session: Session) -> str:
    sql = "SELECT provider || '/' || model_name FROM models WHERE id = coalesce(?, ?)"
    row: Any = database.execute_sql(sql, (answer.model_id, session.model_id)).fetchone()
    if row is None:
        raise InvalidInput(
            f"nobody knows which model answered in {session.uuid[:8]}", hint="--variant NAME says whose answer it is"
        )
    return str(row[0])
