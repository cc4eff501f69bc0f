"""What a caller may not give is refused in one line, whichever function it is given to; what is text is cleaned."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from llmsess import catalog, chat, db, errors, search, sessions, transfer
from llmsess.listing import SessionFilter
from llmsess.search import SearchFilter

WRONG: dict[str, Callable[[Any], Any]] = {
    "content is a text": lambda s: sessions.append(s, "user", 5),  # type: ignore[arg-type]
    "content is no JSON": lambda s: sessions.append(s, "user", [{1, 2}]),
    "no role": lambda s: sessions.append(s, "emperor", "x"),
    'no field "colour"': lambda s: sessions.append(s, "user", "x", colour="red"),
    'did you mean "input_tokens"': lambda s: sessions.append(s, "user", "x", input_token=1),
    "created_at is a time with a zone, not 'junk'": lambda s: sessions.append(s, "user", "x", created_at="junk"),
    "created_at is a time with a zone, not datetime": lambda s: sessions.append(s, "user", "x", created_at=datetime(2026, 1, 1)),
    "input_tokens is a whole number": lambda s: sessions.append(s, "user", "x", input_tokens="5"),
    "cost is a whole number": lambda s: sessions.append(s, "user", "x", cost=-1),
    "no status": lambda s: sessions.append(s, "user", "x", status="done"),
    "no origin": lambda s: sessions.append(s, "user", "x", origin="god"),
    "metadata is an object": lambda s: sessions.append(s, "user", "x", metadata="x"),
    "metadata is no JSON": lambda s: sessions.append(s, "user", "x", metadata={"a": {1}}),
    "reasoning and tool texts are blocks": lambda s: sessions.append(s, "user", ["a", "b"], reasoning="x"),
    "a message is (role, content)": lambda s: sessions.extend(s, [("user",)]),  # type: ignore[list-item]
    "or a dict with role and content": lambda s: sessions.extend(s, [{"role": "user"}]),
    "title is a text": lambda s: sessions.create(5),  # type: ignore[arg-type]
    "temperature is a number from 0 to 10, not 'hot'": lambda s: sessions.create(temperature="hot"),  # type: ignore[arg-type]
    "temperature is a number from 0 to 10, not nan": lambda s: sessions.create(temperature=float("nan")),
    "max_tokens is a whole number from 1 to": lambda s: sessions.create(max_tokens=0),
    "parameters is an object": lambda s: sessions.create(parameters="x"),  # type: ignore[arg-type]
    '"model" is no parameter': lambda s: sessions.create(parameters={"model": "x"}),
    "no session type": lambda s: sessions.create(session_type="x"),
    "a name cannot be empty": lambda s: sessions.create(project=" "),
    "a tag is a text": lambda s: sessions.tag(s, [5]),  # type: ignore[list-item]
    "last is a whole number": lambda s: sessions.path(s, last=-1),
    "a query is a text": lambda s: search.find(5),  # type: ignore[arg-type]
    "limit is a whole number": lambda s: search.find("x", SearchFilter(limit=-1)),
    "since is a time": lambda s: search.find("x", SearchFilter(since="7d")),  # type: ignore[arg-type]
    "until is a time": lambda s: sessions.find(SessionFilter(until=5)),  # type: ignore[arg-type]
    "limit is a whole": lambda s: sessions.find(limit=-1),
    "a prompt is a text": lambda s: chat.ask(s, None),  # type: ignore[arg-type]
    "there is no prompt": lambda s: chat.ask(s, " \n"),
    "no prompt (a prompt of white": lambda s: list(chat.stream(s, "")),
    '"stream" is no parameter': lambda s: chat.ask(s, "x", parameters={"stream": False}),
    "temperature is a number from 0 to 10, not 99": lambda s: chat.once("x", model="echo/echo", temperature=99),
    "base_url is a text": lambda s: catalog.add_model("lab/x", base_url=5),
    "a price of 2000000000000": lambda s: catalog.add_model("lab/x", cost_per_1k_input_tokens=2 * 10**12),
    "price for input and one for output": lambda s: catalog.add_model("lab/x", cost_per_1k_input_tokens=5),
    'no field "nope"': lambda s: catalog.edit_model("echo/echo", nope=1),
    "a model is a text": lambda s: sessions.create(model=5),  # type: ignore[arg-type]
    "no session type (one": lambda s: sessions.find(SessionFilter(type="x")),
    '"bogus" is no role': lambda s: search.find("x", SearchFilter(roles="bogus")),
    "a filter is a SearchFilter": lambda s: search.find("x", {"role": "user"}),  # type: ignore[arg-type]
    "a reference to a session is a text": lambda s: sessions.get(s.id),
    "no NUL": lambda s: db.connect("a\0b"),
}  # fmt: skip


@pytest.mark.parametrize("words", WRONG)
def test_what_cannot_be_is_refused_in_one_line_and_changes_nothing(database: db.Database, words: str) -> None:
    session = sessions.create("only one", model="echo/echo")
    before = [database.execute_sql(f"SELECT * FROM {table}").fetchall() for table in ("sessions", "messages", "models")]
    with pytest.raises(errors.InvalidInput) as caught:
        WRONG[words](session)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    db.connect(database.database)
    after = [database.execute_sql(f"SELECT * FROM {table}").fetchall() for table in ("sessions", "messages", "models")]
    assert after == before


def test_one_word_is_as_good_as_a_list_of_one(database: db.Database) -> None:
    session = sessions.create("x", tags="abc")
    assert sessions.tag(session, "def", "abc") == ["def"]
    sessions.append(session, "user", "hello")
    assert len(search.find("hello", SearchFilter(roles="user", scopes="content"))) == 1
    with pytest.raises(errors.NotFound, match='no file "absent'):
        transfer.run("auto", "absent.jsonl")


def test_texts_are_cleaned_wherever_they_come_in(database: db.Database) -> None:
    odd = "a\x00b\ud800"
    session = sessions.create(odd, project=odd, system_prompt=odd, tags=["t\ud800"], metadata={odd: odd})
    message = sessions.append(
        session, "assistant", odd, external_id=odd, finish_reason=odd, error=odd, usage={odd: odd}
    )
    assert (message.content, message.external_id, message.finish_reason) == ("a\ufffdb\ufffd",) * 3
    row = sessions.find(SessionFilter(project=odd, tag="t\ud800", metadata=((odd, odd),))).rows[0]
    assert (row["title"], row["tags"]) == ("a\ufffdb\ufffd", "t\ufffd")
    assert len(search.find(odd, SearchFilter(project=odd, tag=odd))) == 0


def test_a_time_may_be_iso_text_and_a_reply_with_tokens_is_priced(database: db.Database) -> None:
    session = sessions.create("x")
    fields = {"model": "openai/gpt-4o", "input_tokens": 1000, "output_tokens": 1000}
    reply = sessions.append(session, "assistant", "hi", created_at="2026-01-31T13:00:00+01:00", **fields)
    assert reply.created_at == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert (reply.cost, reply.cost_source) == (12_500_000, "catalog")  # openai.com/api/pricing: $2.50 and $10 a million
    own = sessions.append(session, "assistant", "hi", cost=7, cost_source="provider", **fields)
    assert (own.cost, own.cost_source) == (7, "provider")


def test_without_a_database_every_function_says_how_to_open_one() -> None:
    code = (
        "from llmsess import sessions, search, analytics, errors\n"
        "for call in (sessions.create, sessions.find, analytics.summary, lambda: search.find('x')):\n"
        "    try: call()\n"
        "    except errors.DatabaseProblem as error: print(error)\n"
    )
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "no database is open (call llmsess.connect() first)\n" * 4
