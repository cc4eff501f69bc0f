"""Snapshots: made, listed, compared, restored, replayed, pruned, by a person and by themselves; damage; bad input."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from llmsess import catalog, chat, db, errors, maintenance, sessions, snapshots, tree
from llmsess.models import Message, Session, SessionSnapshot

pytestmark = pytest.mark.usefixtures("database")


def said(messages: Any) -> list[str]:
    return [message.content for message in messages]


@pytest.fixture
def talk(database: db.Database) -> Session:
    """Two turns with a snapshot after the first."""
    session = sessions.create("Talk", model="echo/echo", system_prompt="be kind", temperature=0.5)
    chat.ask(session, "one")
    snapshots.create(session, name="after one")
    chat.ask(session, "two")
    return session


# Making


def test_a_snapshot_is_one_row_and_shows_what_was_said(talk: Session) -> None:
    before = db.database.execute_sql("SELECT count(*) FROM messages").fetchone()
    made = snapshots.create(talk, name="now")
    assert said(snapshots.path(made)) == ["one", "one", "two", "two"]
    assert said(snapshots.path("after one")) == ["one", "one"]
    assert (made.snapshot_type, made.session_state, made.context_window, made.sequence_number) == (
        "manual",
        None,
        None,
        5,
    )
    assert db.database.execute_sql("SELECT count(*) FROM messages").fetchone() == before
    assert snapshots.get("@last").id == made.id == snapshots.get(made.uuid[:6]).id == snapshots.get('"now"').id


def test_an_empty_session_has_a_snapshot_of_nothing(database: db.Database) -> None:
    session = sessions.create("Empty")
    made = snapshots.create(session)
    assert (made.head_id, snapshots.path(made)) == (None, [])
    sessions.append(session, "user", "one")
    assert [(change.kind, change.new and change.new.content) for change in snapshots.diff(made).changes] == [
        ("added", "one")
    ]
    assert sessions.path(snapshots.restore(made).session) == []
    snapshots.restore(made, in_place=True)
    assert sessions.get(session).head_id is None
    assert sessions.append(session, "user", "anew").position == 1


def test_a_name_is_one_snapshot_of_its_session(talk: Session) -> None:
    with pytest.raises(errors.Conflict, match="llmsess snapshot delete"):
        snapshots.create(talk, name=" after  one ")
    other = sessions.create("Other")
    snapshots.create(other, name="after one")
    with pytest.raises(errors.Ambiguous):
        snapshots.get("after one")
    assert snapshots.count() == 2


def test_a_name_means_one_snapshot_however_it_is_typed(talk: Session) -> None:
    first = snapshots.create(talk, name='"two   spaces"')
    assert first.name == "two spaces"
    for typed in ("two spaces", "two  spaces", "two\tspaces", '"two spaces"'):
        assert snapshots.get(typed).id == first.id
    with pytest.raises(errors.Conflict):
        snapshots.create(talk, name="two\nspaces")
    composed = snapshots.create(talk, name="caf\u00e9")
    assert snapshots.get("cafe\u0301").id == composed.id
    snapshots.create(talk, name=first.uuid[:6])
    with pytest.raises(errors.Ambiguous, match="in quotes"):
        snapshots.get(first.uuid[:6])
    assert snapshots.get(f'"{first.uuid[:6]}"').name == first.uuid[:6]
    assert snapshots.get(first.uuid).id == first.id
    assert snapshots.create(talk, name="\x1b[31mred").name == "red"


@pytest.mark.parametrize(
    "given",
    [
        {"name": "@last"},
        {"name": "\u200b"},
        {"name": ""},
        {"name": " \n"},
        {"name": "x" * 201},
        {"type": "weekly"},
        {"name": 5},
    ],
)
def test_what_no_snapshot_can_be_is_refused(talk: Session, given: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidInput):
        snapshots.create(talk, **given)
    assert snapshots.count() == 1


def test_a_deleted_session_has_no_snapshots(talk: Session) -> None:
    assert sessions.delete(talk, dry_run=True).snapshots == 1
    sessions.delete(talk)
    assert snapshots.count() == 0
    for call in (
        snapshots.create,
        snapshots.last_whole,
        lambda session: snapshots.find(snapshots.SnapshotFilter(session)),
    ):
        with pytest.raises(errors.NotFound):
            call(talk)
    with pytest.raises(errors.NotFound):
        snapshots.get("after one")


def test_a_reply_in_the_making_is_not_part_of_it(talk: Session) -> None:
    turn = chat.stream(talk, "three four five")
    next(turn)
    made = snapshots.create(talk)
    list(turn)
    assert said(snapshots.path(made)) == ["one", "one", "two", "two", "three four five"]
    assert said(sessions.path(talk))[-1] == "three four five"


def test_what_the_model_saw_is_kept_where_it_is_not_the_path(talk: Session) -> None:
    chat.ask(talk, "three", context="last:2")
    made = snapshots.create(talk)
    messages = sessions.path(talk)
    assert made.context_window == [messages[i].uuid for i in (2, 3, 4)]
    assert snapshots.get(made).context_window == made.context_window
    chat.ask(talk, "four", context="all")
    assert snapshots.create(talk).context_window is None
    sessions.append(talk, "assistant", "not ours", metadata={"sent_with": {"context": 5}})
    assert snapshots.create(talk).context_window is None


# Settings


def test_a_snapshot_keeps_the_settings_of_then_only_where_they_change(talk: Session) -> None:
    made = snapshots.get("after one")
    then = {
        "model": "echo/echo",
        "system_prompt": "be kind",
        "temperature": 0.5,
        "max_tokens": None,
        "parameters": None,
    }
    assert (made.session_state, snapshots.settings(made)) == (None, then)
    chat.ask(talk, "three", model="echo/big")
    later = snapshots.create(talk)
    Session.update(system_prompt=None, parameters={"top_p": 1}).where(Session.id == talk.id).execute()
    Session.update(system_prompt="new").where(Session.id == talk.id).execute()
    assert snapshots.settings(made) == then
    assert snapshots.settings(later) == then | {"model": "echo/big"}
    assert snapshots.get(later).session_state == {"system_prompt": "be kind", "parameters": None}
    assert snapshots.diff(made, later).settings == {"model": ("echo/echo", "echo/big")}
    assert snapshots.diff(later).settings == {"system_prompt": ("be kind", "new"), "parameters": (None, {"top_p": 1})}


def test_settings_cost_nothing_while_nothing_changes(talk: Session) -> None:
    sessions.rename(talk, "Other title")
    chat.ask(talk, "three")
    sessions.append(talk, "user", "four")
    assert SessionSnapshot.select().where(SessionSnapshot.session_state.is_null(False)).count() == 0


# Comparing


def test_diff_tells_what_was_added(talk: Session) -> None:
    found = snapshots.diff("after one")
    assert found.common == 2
    assert [(change.kind, change.old, change.new and change.new.content) for change in found.changes] == [
        ("added", None, "two"), ("added", None, "two"),
    ]  # fmt: skip
    assert isinstance(found.new, Session)


def test_diff_tells_words_of_an_edit(talk: Session) -> None:
    chat.ask(talk, "why is the sky blue at noon, and at night?")
    made = snapshots.create(talk)
    prompt = sessions.path(talk)[4]
    sessions.edit(prompt, "why is the sky red at noon, and at night?", session=talk)
    found = snapshots.diff(made)
    assert found.common == 4
    assert [change.kind for change in found.changes] == ["replaced", "removed"]
    assert found.changes[0].words == [
        ("same", "why is the sky"), ("removed", " blue"), ("added", " red"), ("same", " at noon, and at night?"),
    ]  # fmt: skip


def test_diff_of_a_whole_other_text_has_no_words(talk: Session) -> None:
    made = snapshots.create(talk)
    chat.undo(talk)
    chat.ask(talk, "something else entirely")
    changes = snapshots.diff(made).changes
    assert [(change.kind, change.words) for change in changes] == [("replaced", None)] * 2


def test_diff_of_texts_without_spaces_and_of_long_ones_ends(talk: Session) -> None:
    for old, new in (
        ("空はなぜ青い", "空はなぜ赤い"),
        ("word " * 60_000, "word " * 59_999 + "end"),
        ("a\n" * 90_000, "b\n" * 90_000),
    ):
        first = sessions.append(talk, "user", old)
        made = snapshots.create(talk)
        sessions.edit(first, new, session=talk)
        words = snapshots.diff(made).changes[0].words
        assert words is not None
        assert "".join(text for kind, text in words if kind != "added") == old
        assert "".join(text for kind, text in words if kind != "removed") == new


def test_diff_of_a_text_that_repeats_its_words_has_only_what_changed(talk: Session) -> None:
    middle = "the cat sat on the mat and the dog ran to the park " * 40
    first = sessions.append(talk, "user", f"START {middle}END")
    made = snapshots.create(talk)
    sessions.edit(first, f"BEGIN {middle}FINISH", session=talk)
    words = snapshots.diff(made).changes[0].words
    assert words is not None
    assert [text for kind, text in words if kind != "same"] == ["START", "BEGIN", " END", " FINISH"]


def test_diff_of_long_texts_that_were_reordered_ends(talk: Session) -> None:
    lines = [f"line {i}\n" for i in range(30_000)]
    first = sessions.append(talk, "user", "".join(lines))
    made = snapshots.create(talk)
    sessions.edit(first, "".join(reversed(lines)), session=talk)
    began = time.monotonic()
    words = snapshots.diff(made).changes[0].words
    assert words is not None and time.monotonic() - began < 10, "a limit against hanging, no measure of speed"


def test_a_model_that_only_a_snapshot_names_is_kept(talk: Session) -> None:
    catalog.add_model("lab/x", base_url="http://localhost:1/v1")
    session = sessions.create("Lab", model="lab/x")
    made = snapshots.create(session)
    Session.update(model=catalog.get_model("echo/echo").id).where(Session.id == session.id).execute()
    assert catalog.remove_model("lab/x") is False
    restored = snapshots.restore(made).session
    assert restored.model is not None and restored.model.base_url == "http://localhost:1/v1"


def test_diff_backwards_and_of_the_same(talk: Session) -> None:
    later = snapshots.create(talk)
    assert [change.kind for change in snapshots.diff(later, "after one").changes] == ["removed", "removed"]
    assert snapshots.diff(later).changes == [] and snapshots.diff(later, later).changes == []


def test_diff_of_unrelated_conversations_is_refused_and_of_related_ones_is_not(talk: Session) -> None:
    fork = sessions.fork(talk)
    sessions.append(fork, "user", "three")
    made = snapshots.create(fork)
    assert [change.kind for change in snapshots.diff("after one", made).changes] == ["added"] * 3
    other = sessions.create("Other")
    sessions.append(other, "user", "x")
    with pytest.raises(errors.InvalidInput, match="in common"):
        snapshots.diff("after one", snapshots.create(other))


# Going back


def test_restore_makes_a_branch_and_leaves_the_session_alone(talk: Session) -> None:
    sessions.tag(talk, "keep")
    before = sessions.get(talk)
    restored = snapshots.restore("after one")
    assert restored.before is None
    branch = restored.session
    assert (branch.title, branch.relation, branch.parent_session_id) == ("Talk (after one)", "restore", talk.id)
    assert (branch.system_prompt, branch.temperature) == ("be kind", 0.5)
    assert said(sessions.path(branch)) == ["one", "one"]
    assert chat.ask(branch, "other").content == "other"
    after = sessions.get(talk)
    assert (after.head_id, after.last_activity_at, snapshots.count()) == (before.head_id, before.last_activity_at, 1)
    assert snapshots.restore("after one", title="Mine").session.title == "Mine"


def test_restore_in_place_moves_the_session_and_can_be_undone_and_redone(talk: Session) -> None:
    chat.ask(talk, "three", model="echo/big")
    restored = snapshots.restore("after one", in_place=True)
    assert restored.session.id == talk.id and restored.before is not None
    assert said(sessions.path(talk)) == ["one", "one"]
    assert snapshots.settings_of(sessions.get(talk))["model"] == "echo/echo"
    assert (restored.before.snapshot_type, restored.before.name) == ("pre_restore", None)
    undone = snapshots.restore(restored.before, in_place=True)
    assert said(sessions.path(talk)) == ["one", "one", "two", "two", "three", "three"]
    assert snapshots.settings_of(sessions.get(talk))["model"] == "echo/big"
    assert undone.before is not None
    snapshots.restore(undone.before, in_place=True)
    assert said(sessions.path(talk)) == ["one", "one"]
    assert maintenance.check().findings == []


def test_restore_to_where_it_is_changes_nothing(talk: Session) -> None:
    made = snapshots.create(talk)
    assert snapshots.restore(made, in_place=True).before is None
    assert snapshots.count() == 2


def test_restore_in_place_opens_a_closed_session_and_leaves_an_archived_one_so(talk: Session) -> None:
    sessions.close(talk)
    assert snapshots.restore("after one", in_place=True).session.status == "active"
    sessions.append(talk, "user", "x")
    sessions.archive(talk)
    assert snapshots.restore("after one", in_place=True).session.status == "archived"
    sessions.archive(talk, archived=False)
    sessions.append(talk, "assistant", "half", status="interrupted")
    made = snapshots.create(talk)
    sessions.append(talk, "user", "on")
    assert snapshots.restore(made, in_place=True).session.status == "interrupted"


def test_restore_takes_a_title_only_for_a_branch(talk: Session) -> None:
    with pytest.raises(errors.InvalidInput, match="new branch"):
        snapshots.restore("after one", in_place=True, title="x")


def test_restore_while_a_reply_comes_keeps_the_reply_for_the_undo(talk: Session) -> None:
    turn = chat.stream(talk, "three four", model="echo/other")
    next(turn)
    restored = snapshots.restore("after one", in_place=True)
    list(turn)
    assert snapshots.diff("after one").settings == {}, "its end changes nothing of where the session is now"
    assert sessions.get(talk).status == "active"
    assert said(sessions.path(talk)) == ["one", "one"]
    assert restored.before is not None
    snapshots.restore(restored.before, in_place=True)
    assert said(sessions.path(talk))[-2:] == ["three four", "three four"]
    assert maintenance.check().findings == []


APPEND = """
import sys, llmsess
from llmsess import sessions
llmsess.connect(sys.argv[1])
for i in range(150):
    sessions.append("Talk", "user", f"more {i}")
"""


def test_restore_while_another_process_appends_loses_nothing(talk: Session, path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", APPEND, str(path)])
    befores = []
    while writer.poll() is None:
        before = snapshots.restore("after one", in_place=True).before
        befores += [before] if before else []
        time.sleep(0.01)
    assert writer.returncode == 0 and befores
    reached = {message.content for before in befores for message in snapshots.path(before)} | set(
        said(sessions.path(talk))
    )
    assert {f"more {i}" for i in range(150)} <= reached, "each is on the path of the session or of what was before"
    assert maintenance.check().findings == []


def test_a_tree_has_the_snapshots_in_it(talk: Session) -> None:
    made = snapshots.create(talk)
    chat.undo(talk)
    [first] = tree.branches(talk)
    assert ([mark.name for mark in first.marks], len(first.messages)) == (["after one"], 2)
    assert [[mark.id for mark in branch.marks] for branch in first.children] == [[made.id]]


# What a snapshot keeps


def test_keeps_counts_what_nothing_else_reaches(talk: Session) -> None:
    made = snapshots.create(talk, name="mine")

    def keeps() -> dict[str, int]:
        return {row["name"]: row["keeps"] for row in snapshots.find() if row["name"]}

    assert keeps() == {"after one": 0, "mine": 0}
    chat.undo(talk)
    assert keeps() == {"after one": 0, "mine": 2}
    chat.ask(talk, "three")
    assert keeps() == {"after one": 0, "mine": 2}, "a sibling is no way to it"
    fork = snapshots.restore(made).session
    assert keeps()["mine"] == 0
    sessions.append(fork, "user", "on")
    assert keeps()["mine"] == 0, "the fork goes on from it"
    sessions.delete(fork)
    twin = snapshots.create(talk, name="twin")
    assert keeps() == {"after one": 0, "mine": 2, "twin": 0}
    chat.undo(talk)
    chat.undo(talk)
    assert keeps() == {"after one": 0, "mine": 2, "twin": 2}
    snapshots.delete(["after one"])
    assert keeps() == {"mine": 2, "twin": 2}, "what both reach, neither keeps alone"
    snapshots.delete([twin])
    assert keeps() == {"mine": 4}


def test_a_retried_reply_beside_the_path_is_not_kept(talk: Session) -> None:
    made = snapshots.create(talk)
    chat.retry(talk)
    sessions.set_head(talk, None)
    assert next(iter(snapshots.find()))["keeps"] == 2, "the reply and its prompt, not the other reply"
    snapshots.delete(["after one"])
    assert [row["keeps"] for row in snapshots.find()] == [4]
    assert snapshots.get(made).id == made.id


def test_the_last_snapshot_of_a_deleted_sessions_messages_takes_them_along(talk: Session) -> None:
    fork = sessions.fork(talk)
    made = snapshots.create(fork, name="shared")
    sessions.set_head(fork, None)
    sessions.delete(talk)
    assert Message.select().count() == 4, "the fork's snapshot reaches them"
    assert said(snapshots.path(made)) == ["one", "one", "two", "two"]
    [row] = snapshots.find().rows
    assert row["keeps"] == 4
    assert snapshots.delete([made], dry_run=True).messages == 4
    assert Message.select().count() == 4
    assert snapshots.delete([made]).messages == 4
    assert Message.select().count() == 0
    assert maintenance.check().findings == []


def made_at(session: Session, days: int, type: str = "auto_save") -> SessionSnapshot:
    made = snapshots.create(session, type=type)
    moment = datetime.now(UTC) - timedelta(days=days)
    SessionSnapshot.update(created_at=moment).where(SessionSnapshot.id == made.id).execute()
    return made


def test_prune_by_age_type_and_number(database: db.Database) -> None:
    first, second = sessions.create("First"), sessions.create("Second")
    old = {session.title: [made_at(session, days) for days in (50, 40, 30, 20, 10)] for session in (first, second)}
    manual, restore = made_at(first, 60, "manual"), made_at(first, 45, "pre_restore")

    def left() -> set[int]:
        return {row.id for row in SessionSnapshot.select(SessionSnapshot.id)}

    everything = left()
    with pytest.raises(errors.InvalidInput, match="no rule"):
        snapshots.prune()
    month = datetime.now(UTC) - timedelta(days=25)
    assert len(snapshots.prune(before=month, dry_run=True).snapshots) == 7
    assert left() == everything
    assert set(snapshots.prune(second, before=month, keep=3).snapshots) == {old["Second"][0].id, old["Second"][1].id}
    found = snapshots.prune(types="pre_restore")
    assert (found.snapshots, found.sessions, found.messages) == ([restore.id], 1, 0)
    assert snapshots.prune(keep=1).sessions == 2
    assert left() == {old["First"][-1].id, old["Second"][-1].id, manual.id}
    assert snapshots.prune(types=["manual", "auto_save"], keep=0).sessions == 2
    assert left() == set()
    for rule in ({"types": "weekly"}, {"keep": -1}, {"before": "yesterday"}, {"keep": True}):
        with pytest.raises(errors.InvalidInput):
            snapshots.prune(**rule)
    with pytest.raises(errors.NotFound):
        snapshots.prune("nobody", keep=1)


def test_find_pages_and_filters(talk: Session) -> None:
    made = [snapshots.create(talk, type="checkpoint").uuid for _ in range(7)]
    SessionSnapshot.update(created_at="2026-01-31T13:00:00.000000Z").where(
        SessionSnapshot.snapshot_type == "checkpoint"
    ).execute()
    chosen = snapshots.SnapshotFilter(type="checkpoint", session="Talk")
    rows, cursor = [], None
    while True:
        page = snapshots.find(chosen, limit=3, cursor=cursor)
        rows += [row["uuid"] for row in page]
        cursor = page.cursor
        if cursor is None:
            break
    assert rows == made[::-1], "those of one moment too, the later made first"
    day = datetime(2026, 2, 1, tzinfo=UTC)
    assert len(snapshots.find(snapshots.SnapshotFilter(since=day))) == 1
    assert len(snapshots.find(snapshots.SnapshotFilter(until=day))) == 7
    with pytest.raises(errors.InvalidInput):
        snapshots.find(cursor="x~y")


def test_lists_take_no_more_queries_for_more_snapshots(talk: Session) -> None:
    for _ in range(30):
        snapshots.create(talk)
    counts = []
    for limit in (3, 30):
        seen: list[Any] = []
        db.database.query_hooks.append(seen.append)
        snapshots.find(limit=limit)
        db.database.query_hooks.remove(seen.append)
        counts.append(len(seen))
    assert counts[0] == counts[1]
