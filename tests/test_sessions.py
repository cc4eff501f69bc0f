"""The tree of messages: append, fork, edit, move, delete; references; large texts; bad text."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmsess import chat, db, errors, maintenance, search, sessions, tree
from llmsess.models import Message, Session, Text
from tests.conftest import FUZZ


def said(session: object, **options: object) -> list[str]:
    return [message.content for message in sessions.path(session, **options)]  # type: ignore[arg-type]


@pytest.fixture
def talk(database: db.Database) -> object:
    session = sessions.create("Talk", model="echo/echo", project="work", tags=["Idea"])
    sessions.extend(session, [("user", "one"), ("assistant", "two"), ("user", "three"), ("assistant", "four")])
    return session


def test_append_makes_one_line(talk: object) -> None:
    path = sessions.path(talk)  # type: ignore[arg-type]
    assert [message.content for message in path] == ["one", "two", "three", "four"]
    assert [message.position for message in path] == [1, 2, 3, 4]
    assert [message.sequence_number for message in path] == [1, 2, 3, 4]
    assert [message.parent_id for message in path] == [None, *[message.id for message in path[:-1]]]
    assert [message.origin for message in path] == ["human", "model", "human", "model"]


def test_a_row_of_another_database_is_refused(database: db.Database, tmp_path: Path) -> None:
    session = sessions.create("here")
    message = sessions.append(session, "user", "x")
    db.connect(tmp_path / "other.db")
    sessions.append(sessions.create("there"), "user", "y")
    for call in (lambda: sessions.append(session, "user", "lost?"), lambda: sessions.path(session), lambda: sessions.get(session),
                 lambda: sessions.get_message(message), lambda: sessions.fork(session)):  # fmt: skip
        with pytest.raises(errors.NotFound, match="of another database"):
            call()
    assert said("there") == ["y"]
    db.connect(database.database)


def test_rows_say_what_they_are(database: db.Database) -> None:
    session = sessions.create("Sky", model="echo/echo", project="p")
    message = sessions.append(session, "user", "why is it blue?")
    assert repr(session) == f"<Session: {session.uuid[:8]} Sky>"
    assert repr(message) == f"<Message: {message.uuid[:8]} why is it blue?>"
    assert repr(session.model) == "<LanguageModel: echo/echo>"
    assert [row["title"] for row in sessions.find()] == ["Sky"]
    with pytest.raises(errors.InvalidInput, match="edited into nothing"):
        sessions.edit(message, " ")


def test_the_last_n_of_a_path_are_in_order(talk: object) -> None:
    assert said(talk, last=2) == ["three", "four"]


def test_fork_shares_messages_and_copies_none(talk: object) -> None:
    before = Message.select().count()
    branch = sessions.fork(talk, sessions.path(talk)[1])  # type: ignore[arg-type]
    assert said(branch) == ["one", "two"]
    assert Message.select().count() == before
    sessions.append(branch, "user", "other")
    assert said(branch) == ["one", "two", "other"]
    assert said(talk) == ["one", "two", "three", "four"]
    assert (branch.relation, branch.parent_session_id) == ("fork", sessions.get("Talk").id)
    row = sessions.find().rows[0]
    assert (row["messages"], row["written_messages"]) == (3, 1)


def test_edit_makes_a_sibling_and_keeps_the_original(talk: object) -> None:
    original = sessions.path(talk)[2]  # type: ignore[arg-type]
    changed = sessions.edit(original, "THREE")
    assert said(talk) == ["one", "two", "THREE"]
    assert changed.parent_id == original.parent_id
    assert changed.position == original.position
    assert [message.content for message in sessions.nodes(talk)] == ["one", "two", "three", "four", "THREE"]  # type: ignore[arg-type]
    assert sessions.get_message(original.uuid).content == "three"


def test_edit_of_the_first_message_makes_a_second_root(talk: object) -> None:
    sessions.edit(sessions.path(talk)[0], "ONE")  # type: ignore[arg-type]
    assert said(talk) == ["ONE"]
    assert maintenance.check().findings == []


def test_edit_of_a_message_that_is_not_in_the_session_is_refused(talk: object) -> None:
    other = sessions.create("Other")
    with pytest.raises(errors.InvalidInput, match="not part"):
        sessions.edit(sessions.path(talk)[0], "x", session=other)  # type: ignore[arg-type]


def test_the_tree_shows_every_branch(talk: object) -> None:
    branch = sessions.fork(talk, sessions.path(talk)[1])  # type: ignore[arg-type]
    sessions.append(branch, "user", "other")
    runs = tree.branches(branch)
    assert [message.content for message in runs[0].messages] == ["one", "two"]
    assert [[message.content for message in run.messages] for run in runs[0].children] == [["three", "four"], ["other"]]
    assert [run.main for run in runs[0].children] == [False, True]


def test_a_tree_may_fork_at_every_message(database: db.Database) -> None:
    session = sessions.create("deep")
    for i in range(1500):
        message = sessions.append(session, "user", str(i))
        if i % 2:
            sessions.edit(message, f"{i}!")
    assert len(tree.branches(session)) == 1


def test_names_tags_and_projects(talk: object) -> None:
    assert sessions.tag("Talk", ["bug"], ["idea"]) == ["bug"]
    assert sessions.rename("Talk", "Walk").title == "Walk"
    assert sessions.move("Walk", "play").project.name == "play"  # type: ignore[union-attr]
    assert sessions.move("Walk", None).project_id is None
    assert sessions.close("Walk").status == "completed"
    sessions.append("Walk", "user", "more")
    assert sessions.get("Walk").status == "active"
    with pytest.raises(errors.InvalidInput):
        sessions.rename("Walk", "  ")
    with pytest.raises(errors.InvalidInput, match="one word"):
        sessions.tag("Walk", ["two words"])


def test_archived_sessions_show_only_when_asked(talk: object) -> None:
    sessions.archive("Talk")
    assert sessions.find().rows == []
    assert sessions.count() == 0
    assert [row["title"] for row in sessions.find(sessions.SessionFilter(status="archived")).rows] == ["Talk"]
    sessions.archive("Talk", archived=False)
    assert sessions.count() == 1


# References


def test_a_session_is_known_by_prefix_title_and_last(talk: object) -> None:
    uuid = sessions.get("Talk").uuid
    assert sessions.get(uuid).uuid == sessions.get(uuid[:4]).uuid == sessions.get('"Talk"').uuid == uuid
    assert sessions.get("@last").uuid == uuid
    assert sessions.get(uuid.upper()[:6]).uuid == uuid


def test_unknown_ambiguous_and_empty_references(talk: object) -> None:
    with pytest.raises(errors.NotFound, match='did you mean "Talk"') as unknown:
        sessions.get("Tolk")
    assert unknown.value.exit_code == 3
    sessions.create("Talk")
    with pytest.raises(errors.Ambiguous, match="is ambiguous") as ambiguous:
        sessions.get("Talk")
    assert ambiguous.value.exit_code == 2
    with pytest.raises(errors.InvalidInput):
        sessions.get("  ")
    with pytest.raises(errors.NotFound):
        sessions.get("abc")  # too short for a prefix, and no title


def test_last_of_nothing_is_not_found(database: db.Database) -> None:
    with pytest.raises(errors.NotFound):
        sessions.get("@last")


def test_a_title_that_looks_like_a_prefix_is_found(database: db.Database) -> None:
    sessions.create("beef")
    assert sessions.get("beef").title == "beef"


# Deleting


def test_deleting_keeps_what_a_fork_reaches(talk: object) -> None:
    branch = sessions.fork(talk, sessions.path(talk)[1])  # type: ignore[arg-type]
    assert sessions.delete(talk, dry_run=True) == sessions.Deletion(2, 2)  # type: ignore[arg-type]
    assert sessions.delete(talk) == sessions.Deletion(2, 2)  # type: ignore[arg-type]
    assert said(branch) == ["one", "two"]
    with pytest.raises(errors.NotFound):
        sessions.get("Talk")
    assert sessions.delete(branch, dry_run=True) == sessions.Deletion(2, 0), "what was kept for it"
    assert sessions.delete(branch) == sessions.Deletion(2, 0)
    assert maintenance.check().findings == []


def test_deleting_the_last_branch_takes_what_deleted_sessions_kept_for_it(talk: object) -> None:
    branch = sessions.fork(talk)  # type: ignore[arg-type]
    further = sessions.fork(branch)
    for session in (talk, branch):
        sessions.delete(session)  # type: ignore[arg-type]
    assert said(further) == ["one", "two", "three", "four"]
    sessions.delete(further)
    assert Message.select().count() == 0
    assert Session.select().count() == 0
    assert len(search.find("one")) == 0


def test_deleting_takes_large_texts_that_nobody_else_has(database: db.Database) -> None:
    text = "large " * 20_000
    one, two = sessions.create("one"), sessions.create("two")
    sessions.append(one, "user", text)
    sessions.append(two, "user", text)
    sessions.delete(one)
    assert Text.select().count() == 1
    assert said(two) == [text]
    sessions.delete(two)
    assert Text.select().count() == 0


# Texts


def test_a_large_text_is_stored_once_shown_whole_and_found(database: db.Database) -> None:
    session = sessions.create("large")
    text = "needle " + "hay " * 40_000 + "pin"
    sessions.append(session, "user", text)
    sessions.append(session, "assistant", text)
    stored = database.execute_sql("SELECT length(content), content_sha256 FROM messages").fetchall()
    assert stored[0] == stored[1]
    assert stored[0][0] == 1024
    assert Text.select().count() == 1
    assert said(session) == [text, text]
    assert len(search.find("pin")) == 2
    assert maintenance.check().findings == []


def test_a_message_of_50_mb(database: db.Database) -> None:
    session = sessions.create("huge")
    text = "word " * 10_000_000 + "needle"
    sessions.append(session, "user", text)
    assert len(said(session)[0]) == len(text)
    hits = list(search.find("needle"))
    assert len(hits) == 1
    assert len(hits[0].snippet) <= 300


def test_bad_text_is_cleaned_and_kept(database: db.Database) -> None:
    session = sessions.create("bad\x00title\ud800", system_prompt="\x00")
    assert session.title == "bad\ufffdtitle\ufffd"
    sessions.append(session, "user", "a\x00b\ud800c", reasoning="\ud800", error="\x00")
    assert said(session) == ["a\ufffdb\ufffdc"]


def test_a_title_of_10_000_characters(database: db.Database) -> None:
    title = "title " * 1_666 + "tail"
    session = sessions.create(title)
    assert sessions.get(title).uuid == session.uuid


def test_the_first_prompt_gives_the_title(database: db.Database) -> None:
    session = sessions.create()
    sessions.append(session, "user", "why\nis the sky " + "so " * 60 + "blue?")
    title = sessions.get(session).title
    assert title is not None and title.startswith("why is the sky so")
    assert len(title) == 80


@pytest.mark.parametrize("options", [{"temperature": -1}, {"max_tokens": 0}])
def test_settings_that_cannot_be_are_refused(database: db.Database, options: dict[str, float]) -> None:
    with pytest.raises(errors.InvalidInput):
        sessions.create("x", **options)  # type: ignore[arg-type]


def test_an_unknown_role_is_refused_and_writes_nothing(talk: object) -> None:
    with pytest.raises(errors.InvalidInput, match="no role"):
        sessions.extend(talk, [("user", "five"), ("emperor", "six")])  # type: ignore[arg-type]
    assert said(talk) == ["one", "two", "three", "four"]


# Lists


def test_a_list_is_paged_by_its_cursor(database: db.Database) -> None:
    for i in range(7):
        sessions.create(f"s{i}")
    seen, cursor = [], None
    while True:
        page = sessions.find(limit=3, cursor=cursor)
        seen += [row["title"] for row in page.rows]
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == [f"s{i}" for i in range(6, -1, -1)]
    with pytest.raises(errors.InvalidInput, match="cursor"):
        sessions.find(cursor="nonsense")


@pytest.mark.parametrize("rows", [3, 30])
def test_a_list_takes_two_statements_however_long(database: db.Database, rows: int) -> None:
    for i in range(rows):
        sessions.append(sessions.create(f"s{i}", project="p", model="echo/echo", tags=["t"]), "user", "x")
    statements: list[str] = []
    database.query_hooks.append(lambda event: statements.append(event.sql))
    assert len(sessions.find(limit=50).rows) == rows
    database.query_hooks.clear()
    assert len(statements) == 2


def test_filters(talk: object) -> None:
    sessions.create("Plain", metadata={"ticket": 42, "team": "blue"})
    names = {
        "project": sessions.SessionFilter(project="work"),
        "model": sessions.SessionFilter(model="echo/echo"),
        "tag": sessions.SessionFilter(tag="idea"),
    }
    for filter in names.values():
        assert [row["title"] for row in sessions.find(filter).rows] == ["Talk"]
        assert sessions.count(filter) == 1
    for pair in (("ticket", "42"), ("team", "blue")):
        assert [r["title"] for r in sessions.find(sessions.SessionFilter(metadata=(pair,))).rows] == ["Plain"]
    with pytest.raises(errors.NotFound):
        sessions.find(sessions.SessionFilter(project="absent"))
    with pytest.raises(errors.InvalidInput, match="no status"):
        sessions.find(sessions.SessionFilter(status="sleepy"))


actions = st.lists(
    st.tuples(st.sampled_from(["append", "fork", "edit", "delete"]), st.integers(0, 5), st.integers(0, 20)), max_size=25
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions)
def test_every_branch_keeps_what_it_showed(template: Path, tmp_path: Path, steps: list[tuple[str, int, int]]) -> None:
    """Whatever is appended, forked, edited and deleted, no other branch changes, and every invariant holds."""
    import shutil

    path = Path(shutil.copy(template, tmp_path / "property.db"))
    for extra in ("-wal", "-shm"):
        Path(f"{path}{extra}").unlink(missing_ok=True)
    db.connect(path)
    shown: dict[int, list[str]] = {sessions.create("first").id: []}
    for action, which, number in steps:
        names = list(shown)
        if not names:
            break
        target = names[which % len(names)]
        session = sessions.by_id(target)
        messages = sessions.path(session)
        if action == "append":
            sessions.append(session, "user", f"m{number}")
            shown[target] = [*shown[target], f"m{number}"]
        elif action == "fork" and messages:
            at = number % len(messages)
            shown[sessions.fork(session, messages[at]).id] = shown[target][: at + 1]
        elif action == "edit" and messages:
            at = number % len(messages)
            sessions.edit(messages[at], "edited", session=session)
            shown[target] = [*shown[target][:at], "edited"]
        elif action == "delete":
            sessions.delete(session)
            del shown[target]
        for row_id, contents in shown.items():
            assert said(sessions.by_id(row_id)) == contents
    assert maintenance.check().findings == []
    db.database.close()


OPERATIONS = [
    "ask",
    "ask",
    "ask",
    "append",
    "fork",
    "fork",
    "edit",
    "retry",
    "delete",
    "delete",
    "head",
    "extend",
    "create",
    "archive",
    "close",
]


@pytest.mark.parametrize("seed", range(3 * FUZZ))
def test_any_mix_of_operations_keeps_the_tree_whole(database: db.Database, seed: int) -> None:
    rng = random.Random(seed)
    for step in range(60):
        row = rng.choice(sessions.find(limit=None).rows or [{"uuid": sessions.create("new", model="echo/echo").uuid}])
        session = sessions.get(row["uuid"])
        messages = [*sessions.path(session), *sessions.nodes(session)]
        any_message = rng.choice(messages) if messages else None
        operation = rng.choice(OPERATIONS)
        if operation == "ask":
            chat.ask(session, f"word {step}", model="echo/echo")
        elif operation == "append":
            sessions.append(session, rng.choice(("user", "assistant", "tool", "system")), f"said {step}")
        elif operation == "fork":
            sessions.fork(session, any_message)
        elif operation == "edit" and any_message is not None:
            sessions.edit(any_message, f"edited {step}", session=session)
        elif operation == "retry" and any(message.role == "user" for message in sessions.path(session)):
            chat.retry(session, model="echo/echo")
        elif operation == "delete":
            sessions.delete(session)
        elif operation == "head":
            sessions.set_head(session, any_message)
        elif operation == "extend":
            sessions.extend(session, [("user", "large " * 15_000), ("assistant", f"answer {step}")])
        elif operation == "create":
            sessions.create(f"session {step}")
        elif operation == "archive":
            sessions.archive(sessions.archive(session), archived=False)
        elif operation == "close":
            sessions.close(session)
        assert maintenance.check().findings == [], (seed, step, operation)
    for row in sessions.find(limit=None):
        path = sessions.path(row["uuid"])
        drawn = [message.id for branch in flat(tree.branches(row["uuid"])) for message in branch.messages]
        assert [message.position for message in path] == list(range(1, row["messages"] + 1))
        assert len(drawn) == len(set(drawn)) and {message.id for message in path} <= set(drawn)
    assert all(hit.session_id for hit in search.find("word", search.SearchFilter(limit=500)))
    for row in sessions.find(limit=None):
        sessions.delete(row["uuid"])
    left = [
        database.execute_sql(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ("sessions", "messages", "texts")
    ]
    assert left == [0, 0, 0]


def flat(branches: list[tree.Branch]) -> list[tree.Branch]:
    return [one for branch in branches for one in (branch, *flat(branch.children))]
