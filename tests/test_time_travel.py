"""Whatever is done to conversations: a snapshot shows what it showed when it was made, and totals are those of the rows."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from llmsess import chat, db, errors, maintenance, sessions, snapshots
from llmsess.models import Message, Session
from tests.conftest import FUZZ

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip)
MODELS = st.sampled_from(["echo/echo", "echo/big", "echo/small"])


def shown(snapshot: Any) -> tuple[Any, ...]:
    """Return all that a snapshot shows."""
    found = snapshots.get(snapshot)
    said = [(message.uuid, message.role, message.content, message.status) for message in snapshots.path(found)]
    return found.name, found.snapshot_type, said, snapshots.settings(found), found.context_window


class Conversations(RuleBasedStateMachine):
    """A few conversations in one database, to which things are done in any order."""

    template: Path  # a migrated, empty database
    talks = Bundle("talks")
    marks = Bundle("marks")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        db.connect(shutil.copy(self.template, Path(self.folder.name) / "test.db"))
        self.shown: dict[str, tuple[Any, ...]] = {}
        self.names = itertools.count()

    def teardown(self) -> None:
        self.forget_the_gone()
        findings = maintenance.check().findings
        db.database.close()
        self.folder.cleanup()
        assert findings == []

    def is_there(self, talk: str) -> bool:
        return Session.select().where((Session.uuid == talk) & (Session.status != "deleted")).exists()

    def forget_the_gone(self) -> None:
        """Forget snapshots that were deleted, which is known here only by their being gone."""
        there = {row["uuid"] for row in snapshots.find(limit=None)}
        self.shown = {uuid: what for uuid, what in self.shown.items() if uuid in there}

    def keep(self, snapshot: Any) -> str:
        self.shown[snapshot.uuid] = shown(snapshot)
        return str(snapshot.uuid)

    @initialize(target=talks, model=MODELS, system=st.none() | TEXT)
    def begin(self, model: str, system: str | None) -> str:
        talk = sessions.create("Talk", model=model, system_prompt=system)
        for prompt in ("one", "two"):
            chat.ask(talk, prompt)
        return str(talk.uuid)

    @rule(talk=talks, text=TEXT, role=st.sampled_from(["user", "assistant", "system", "tool"]))
    def append(self, talk: str, text: str, role: str) -> None:
        if self.is_there(talk):
            sessions.append(talk, role, text, input_tokens=3, output_tokens=2)

    @rule(talk=talks, text=TEXT, model=MODELS, context=st.sampled_from([None, "last:0", "last:2"]))
    def ask(self, talk: str, text: str, model: str, context: str | None) -> None:
        if self.is_there(talk):
            chat.ask(talk, text, model=model, context=context)

    @rule(talk=talks, model=MODELS)
    def retry(self, talk: str, model: str) -> None:
        if self.is_there(talk) and chat.last_prompt(talk) is not None:
            chat.retry(talk, model=model)

    @rule(talk=talks)
    def undo(self, talk: str) -> None:
        if self.is_there(talk) and chat.last_prompt(talk) is not None:
            chat.undo(talk)

    @rule(talk=talks, text=TEXT, place=st.integers(0, 50))
    def edit(self, talk: str, text: str, place: int) -> None:
        path = sessions.path(talk) if self.is_there(talk) else []
        if path:
            sessions.edit(path[place % len(path)], text, session=talk)

    @rule(target=talks, talk=talks, place=st.none() | st.integers(0, 50))
    def fork(self, talk: str, place: int | None) -> Any:
        if not self.is_there(talk):
            return multiple()
        path = sessions.path(talk)
        at = path[place % len(path)] if place is not None and path else None
        return str(sessions.fork(talk, at).uuid)

    @rule(talk=talks, system=st.none() | TEXT, tokens=st.none() | st.integers(1, 9))
    def change_settings(self, talk: str, system: str | None, tokens: int | None) -> None:
        Session.update(system_prompt=system, max_tokens=tokens).where(Session.uuid == talk).execute()

    @rule(target=marks, talk=talks, is_named=st.booleans(), type=st.sampled_from(["manual", "checkpoint", "auto_save"]))
    def snapshot(self, talk: str, is_named: bool, type: str) -> Any:
        if not self.is_there(talk):
            return multiple()
        return self.keep(snapshots.create(talk, name=f"mark {next(self.names)}" if is_named else None, type=type))

    @rule(target=talks, mark=marks)
    def restore_on_a_branch(self, mark: str) -> Any:
        if mark not in self.shown:
            return multiple()
        branch = snapshots.restore(mark).session
        assert [message.uuid for message in sessions.path(branch)] == [said[0] for said in self.shown[mark][2]]
        assert snapshots.settings_of(branch) == self.shown[mark][3]
        return str(branch.uuid)

    @rule(target=marks, mark=marks)
    def restore_in_place(self, mark: str) -> Any:
        if mark not in self.shown:
            return multiple()
        owner = snapshots.get(mark).session_id
        was = [message.uuid for message in sessions.path(sessions.by_id(owner))]
        restored = snapshots.restore(mark, in_place=True)
        assert [message.uuid for message in sessions.path(restored.session)] == [
            said[0] for said in self.shown[mark][2]
        ]
        assert snapshots.settings_of(restored.session) == self.shown[mark][3]
        if restored.before is None:
            return multiple()
        assert [message.uuid for message in snapshots.path(restored.before)] == was
        return self.keep(restored.before)

    @rule(target=talks, mark=marks, model=MODELS)
    def replay(self, mark: str, model: str) -> Any:
        try:
            done = snapshots.replay(mark, model=model) if mark in self.shown else []
        except errors.InvalidInput:  # it has no prompt
            return multiple()
        return str(done[0].session.uuid) if done else multiple()

    @precondition(lambda self: sessions.count() > 2)
    @rule(talk=consumes(talks))
    def delete_session(self, talk: str) -> None:
        if self.is_there(talk):
            sessions.delete(talk)
            self.forget_the_gone()

    @rule(mark=consumes(marks))
    def delete_snapshot(self, mark: str) -> None:
        if mark in self.shown:
            would, rows = snapshots.delete([mark], dry_run=True), Message.select().count()
            assert snapshots.delete([mark]) == would
            assert Message.select().count() == rows - would.messages
            del self.shown[mark]

    @rule(keep=st.integers(0, 3))
    def prune(self, keep: int) -> None:
        manual = {uuid for uuid, what in self.shown.items() if what[1] == "manual"}
        snapshots.prune(keep=keep)
        self.forget_the_gone()
        assert manual <= set(self.shown)

    @invariant()
    def every_snapshot_shows_what_it_showed(self) -> None:
        assert {uuid: shown(uuid) for uuid in self.shown} == self.shown
        assert {row["uuid"] for row in snapshots.find(limit=None)} == set(self.shown)

    @invariant()
    def what_a_snapshot_keeps_is_what_nothing_else_reaches(self) -> None:
        heads: dict[str, int | None] = {row.uuid: row.head_id for row in Session.select()}
        heads |= {uuid: snapshots.get(uuid).head_id for uuid in self.shown}
        reached = {uuid: _ancestors(head) for uuid, head in heads.items()}
        for row in snapshots.find(limit=None):
            others = set().union(*(ids for uuid, ids in reached.items() if uuid != row["uuid"]))
            assert row["keeps"] == len(reached[row["uuid"]] - others)


def _ancestors(head: int | None) -> set[int]:
    """Return a message and those above it, found one by one."""
    found: set[int] = set()
    while head is not None:
        found.add(head)
        head = Message.get_by_id(head).parent_id
    return found


def test_snapshots_show_what_they_showed_after_any_mix_of_deeds(template: Path) -> None:
    Conversations.template = template
    machine = Conversations.TestCase
    machine.settings = settings(max_examples=20 * FUZZ, stateful_step_count=40, deadline=None)
    machine().runTest()
