"""The interactive chat, typed at a real pseudo-terminal and read from its screen."""

from __future__ import annotations

import json
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmsess import db, sessions
from tests.terminals import ALT_ENTER, CTRL_C, CTRL_D, ENTER, UP, Terminal


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., str]:
    def write(*answers: Any) -> str:
        path = tmp_path / "answers.json"
        path.write_text(json.dumps(list(answers)))
        return f"scripted/{path}"

    return write


def stored(path: Path, reference: str = "@last") -> list[tuple[str, str]]:
    db.connect(path)
    try:
        return [(message.content, message.status) for message in sessions.path(reference)]
    finally:
        db.database.close()


def test_a_conversation_is_typed_answered_stored_and_left_with_ctrl_d(
    path: Path, terminal: Callable[..., Terminal]
) -> None:
    talk = terminal("chat", "-m", "echo/echo")
    talk.shows("echo/echo · /help shows the commands, Ctrl-D leaves\n>")
    talk.type("hello you", ENTER)
    talk.shows("> hello you\nhello you\n")
    talk.type("more", ENTER)
    talk.shows("> more\nmore\n")
    talk.type(CTRL_D)
    assert talk.ended() == 0
    assert "To go on: llmsess chat --session" in talk.text()
    assert [text for text, _ in stored(path)] == ["hello you", "hello you", "more", "more"]


def test_leaving_before_the_first_prompt_makes_no_session(path: Path, terminal: Callable[..., Terminal]) -> None:
    talk = terminal("chat", "-m", "echo/echo")
    talk.shows("Ctrl-D leaves\n>")
    talk.type("/exit", ENTER)
    assert talk.ended() == 0
    db.connect(path)
    assert sessions.count() == 0
    db.database.close()


def test_ctrl_c_stops_a_reply_and_keeps_it_and_clears_a_line(
    path: Path, terminal: Callable[..., Terminal], script: Callable[..., str]
) -> None:
    words = " ".join(f"word{i}" for i in range(200))
    talk = terminal("chat", "-m", script({"content": words, "chunk_delay_s": 0.05}, "second"))
    talk.shows("Ctrl-D leaves\n>")
    talk.type("half a line", CTRL_C)
    talk.type("go", ENTER)
    talk.shows("> go\nword0 word1 word2")
    talk.type(CTRL_C)
    talk.shows("Stopped; what came is kept.")
    talk.type("and now?", ENTER)
    talk.shows("> and now?\nsecond\n")
    talk.type(CTRL_D)
    assert talk.ended() == 0
    (prompt, first), (_, second) = stored(path)[::2], stored(path)[1::2]
    assert [prompt, first] == [("go", "complete"), ("and now?", "complete")]
    assert second == ("second", "complete")
    partial = stored(path)[1]
    assert partial[1] == "interrupted" and partial[0].startswith("word0 word1 word2")


def test_lines_are_joined_by_alt_enter_and_multi(path: Path, terminal: Callable[..., Terminal]) -> None:
    talk = terminal("chat", "-m", "echo/echo")
    talk.shows("Ctrl-D leaves\n>")
    talk.type("one", ALT_ENTER, "two", ENTER)
    talk.shows("one\ntwo\n")
    talk.type("/multi", ENTER)
    talk.shows("\n.")
    talk.type("three", ENTER, "", ENTER, "/four", ENTER, "/end", ENTER)
    talk.shows("three\n\n/four")
    talk.type("//five", ENTER)
    talk.shows("/five")
    talk.type(CTRL_D)
    talk.ended()
    assert [text for text, _ in stored(path)[::2]] == ["one\ntwo", "three\n\n/four", "/five"]


def test_pasted_lines_are_one_prompt(path: Path, terminal: Callable[..., Terminal]) -> None:
    talk = terminal("chat", "-m", "echo/echo")
    talk.shows("Ctrl-D leaves\n>")
    talk.type("\x1b[200~first\nsecond\nthird\x1b[201~", ENTER)
    talk.shows("first second third\n>")
    talk.type(CTRL_D)
    assert talk.ended() == 0
    assert stored(path)[0][0] == "first\nsecond\nthird"


def test_commands_do_what_they_say(path: Path, terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    editor = tmp_path / "editor.sh"
    editor.write_text('#!/bin/sh\nprintf "edited prompt" > "$1"\n')
    editor.chmod(0o700)
    note = tmp_path / "note.txt"
    note.write_text("x")
    talk = terminal("chat", "-m", "echo/echo", "--title", "Talk", EDITOR=str(editor), VISUAL=str(editor))
    talk.shows("Ctrl-D leaves\n>")
    talk.type("/cost", ENTER)
    talk.shows("Error: nothing was said yet")
    talk.type("first", ENTER)
    talk.shows("> first\nfirst\n")
    talk.type("/cost", ENTER)
    talk.shows("1 tokens in, 1 out")
    talk.type("/context", ENTER)
    talk.shows("echo/echo · 2 messages · 2 tokens")
    talk.type("/tag blue sky", ENTER)
    talk.shows("#blue #sky")
    talk.type("/retry", ENTER)
    talk.shows("> /retry\nfirst\n")
    talk.type("/edit", ENTER)
    talk.shows("> /edit\nedited prompt\n")
    talk.type("/undo", ENTER)
    talk.shows('Took back "edited prompt" and what followed')
    talk.type("/fork Other", ENTER)
    talk.shows("(Other); the other stays as it is.")
    talk.type("second", ENTER)
    talk.shows("> second\nsecond\n")
    talk.type("/model", ENTER)
    talk.shows("> /model\necho/echo\n")
    talk.type("/model echo/other", ENTER)
    talk.shows("echo/other")
    talk.type("/system Be terse.", ENTER)
    talk.shows("Be terse.")
    talk.type("third", ENTER)
    talk.shows("> third\nthird\n")
    talk.type(f"/attach {note}", ENTER)
    talk.shows("With the next prompt: note.txt (text/plain)")
    talk.type("/search first", ENTER)
    talk.shows("Talk")
    talk.type("/modle x", ENTER)
    talk.shows('no command "/modle"; did you mean "/model"?')
    talk.type("/help", ENTER)
    talk.shows("/undo", "Ctrl-D leaves")
    talk.type("quit", ENTER)
    assert talk.ended() == 0
    assert [text for text, _ in stored(path, "Other")] == ["second", "second", "third", "third"]
    db.connect(path)
    other = sessions.get("Other")
    assert other.model and other.model.reference == "echo/other"
    assert (sessions.path(other)[-1].metadata or {})["sent_with"]["system_prompt"] == "Be terse."
    assert len(sessions.nodes("Talk")) == 5, "prompt, two replies, the edited prompt and its reply"
    assert sorted(tag for tag in sessions.tag("Talk", ())) == ["blue", "sky"]
    db.database.close()


def test_a_session_that_goes_on_shows_what_was_said(path: Path, terminal: Callable[..., Terminal]) -> None:
    db.connect(path)
    session = sessions.create("Long", model="echo/echo")
    for i in range(5):
        sessions.extend(session, [("user", f"question {i}"), ("assistant", f"answer {i}")])
    db.database.close()
    talk = terminal("chat", "-c")
    shown = talk.shows("(4 earlier messages: llmsess show ", "question 2", "answer 4", "leaves\n>")
    assert "answer 1" not in shown
    talk.type("and?", ENTER)
    talk.shows("> and?\nand?\n")
    talk.type(CTRL_D)
    talk.ended()
    assert len(stored(path)) == 12


def test_what_is_not_to_be_kept_is_not(path: Path, terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    talk = terminal("chat", "-m", "echo/echo", "--no-store")
    talk.shows("Ctrl-D leaves\n>")
    talk.type("secret words", ENTER)
    talk.shows("> secret words\nsecret words\n")
    talk.type("/fork", ENTER)
    talk.shows("nothing is kept of this conversation")
    talk.type(CTRL_D)
    assert talk.ended() == 0
    db.connect(path)
    assert sessions.count() == 0
    db.database.close()
    assert not (tmp_path / "home" / "history").exists()


def test_what_was_typed_is_there_the_next_time_and_private(
    path: Path, terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    talk = terminal("chat", "-m", "echo/echo")
    talk.shows("Ctrl-D leaves\n>")
    talk.type("remember me", ENTER)
    talk.shows("> remember me\nremember me\n")
    talk.type(CTRL_D)
    talk.ended()
    assert stat.S_IMODE((tmp_path / "home" / "history").stat().st_mode) == 0o600
    again = terminal("chat", "-m", "echo/echo")
    again.shows("Ctrl-D leaves\n>")
    again.type(UP)
    again.shows("> remember me")


def test_an_error_leaves_the_conversation_where_it_is(
    path: Path, terminal: Callable[..., Terminal], script: Callable[..., str]
) -> None:
    talk = terminal("chat", "-m", script({"error": {"kind": "server", "status": 500, "message": "it broke"}}, "fine"))
    talk.shows("Ctrl-D leaves\n>")
    talk.type("first", ENTER)
    talk.shows("Error:", "it broke")
    talk.type("second", ENTER)
    talk.shows("> second\nfine\n")
    talk.type(CTRL_D)
    assert talk.ended() == 0


def test_a_template_is_filled_with_each_prompt(path: Path, terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    file = tmp_path / "shout.yaml"
    file.write_text("prompt: 'Shout {{ input }}{{ end }}'\nsystem: 'Loud {{ input }}.'\nmodel: echo/echo\n")
    talk = terminal("chat", "-t", str(file), "-p", "end", "!")
    talk.shows("Ctrl-D leaves\n>")
    talk.type("hello", ENTER)
    talk.shows("Shout hello!")
    talk.type(CTRL_D)
    talk.ended()
    assert stored(path)[0][0] == "Shout hello!"
    db.connect(path)
    assert (sessions.path("@last")[1].metadata or {})["sent_with"]["system_prompt"] == "Loud hello."
    db.database.close()


def test_the_end_of_the_terminal_keeps_what_came(
    path: Path, terminal: Callable[..., Terminal], script: Callable[..., str]
) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        words = " ".join(f"word{i}" for i in range(200))
        talk = terminal("chat", "-m", script({"content": words, "chunk_delay_s": 0.05}))
        talk.shows("Ctrl-D leaves\n>")
        talk.type("go", ENTER)
        talk.shows("word0 word1 word2")
        talk.child.kill(number)
        talk.ended()
        assert talk.child.signalstatus == number
        partial = stored(path)[1]
        assert partial[1] == "interrupted" and partial[0].startswith("word0 word1 word2")


def test_a_prompt_that_was_given_is_answered_without_a_conversation(
    path: Path, terminal: Callable[..., Terminal]
) -> None:
    talk = terminal("chat", "hello **you**", "-m", "echo/echo")
    assert talk.ended() == 0
    assert talk.text() == "hello you", "Markdown is rendered on a terminal"
    raw = terminal("chat", "hello **you**", "-m", "echo/echo", "--raw")
    assert raw.ended() == 0
    assert raw.text() == "hello **you**"
    dumb = terminal("chat", "hello **you**", "-m", "echo/echo", TERM="dumb")
    assert dumb.ended() == 0
    assert dumb.text() == "hello **you**"


def test_reasoning_is_dim_and_no_control_sequence_gets_through(
    path: Path, terminal: Callable[..., Terminal], script: Callable[..., str]
) -> None:
    model = script({"content": "clean \x1b[2Jtext\x1b]0;title\x07 end", "reasoning": "thinking \x1b[31mhard"})
    talk = terminal("chat", "x", "-m", model)
    assert talk.ended() == 0
    assert talk.text() == "thinking hard\nclean text end"
    assert b"\x1b[2mthinking" in talk.sent
    assert b"\x1b[2J" not in talk.sent and b"\x1b]0;" not in talk.sent and b"\x1b[31m" not in talk.sent
    hidden = terminal("chat", "x", "-m", model, "-R")
    assert hidden.ended() == 0
    assert hidden.text() == "clean text end"
    colourless = terminal("chat", "x", "-m", model, NO_COLOR="1")
    assert colourless.ended() == 0
    assert b"\x1b[2m" not in colourless.sent


def test_a_conversation_that_is_deleted_meanwhile_begins_anew(path: Path, terminal: Callable[..., Terminal]) -> None:
    talk = terminal("chat", "-m", "echo/echo", "--title", "First")
    talk.shows("Ctrl-D leaves\n>")
    talk.type("one", ENTER)
    talk.shows("> one\none\n")
    db.connect(path)
    sessions.delete("First")
    db.database.close()
    talk.type("two", ENTER)
    talk.shows("was deleted meanwhile", "two\n>")
    talk.type(CTRL_D)
    assert talk.ended() == 0
    assert stored(path) == [("two", "complete"), ("two", "complete")]


def test_a_history_that_cannot_be_kept_hinders_nothing(
    path: Path, terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    (tmp_path / "home" / "history").mkdir(parents=True)
    talk = terminal("chat", "-m", "echo/echo")
    talk.shows("What is typed is not remembered", ">")
    talk.type("one", ENTER)
    talk.shows("> one\none\n")


def test_an_attachment_goes_with_one_prompt_only(
    path: Path, terminal: Callable[..., Terminal], script: Callable[..., str], tmp_path: Path
) -> None:
    note = tmp_path / "a note.txt"
    note.write_text("x")
    talk = terminal("chat", "-m", script({"error": {"kind": "server", "message": "it broke"}}, "fine"))
    talk.shows("Ctrl-D leaves\n>")
    talk.type(f"/attach '{note}'", ENTER)
    talk.shows("With the next prompt: a note.txt (text/plain)")
    talk.type("first", ENTER)
    talk.shows("it broke", "/retry sends it again.")
    talk.type("/attach", ENTER)
    talk.shows("Nothing is attached.")
    talk.type("second", ENTER)
    talk.shows("> second\nfine\n")
    db.connect(path)
    assert [message.parts is not None for message in sessions.path("@last") if message.role == "user"] == [True, False]
    db.database.close()
