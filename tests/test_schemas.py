"""Answers as JSON: schemas in their forms, an answer held against one, one repair, and the last code block."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmsess import chat, codeblocks, db, errors, schemas, sessions
from tests.conftest import Command
from tests.server import ChatServer

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture
def script(tmp_path: Path) -> Any:
    def write(*answers: str) -> str:
        path = tmp_path / "answers.json"
        path.write_text(json.dumps(list(answers)))
        return f"scripted/{path}"

    return write


def test_a_schema_is_a_file_json_or_a_short_form(tmp_path: Path) -> None:
    file = tmp_path / "person.json"
    file.write_text(json.dumps(PERSON))
    assert schemas.load(str(file)) == PERSON
    assert schemas.load(json.dumps(PERSON)) == PERSON
    assert schemas.load("name, age int") == PERSON
    described = schemas.load("name: the full name\nage int: in years, rounded")
    assert described["properties"]["age"] == {"type": "integer", "description": "in years, rounded"}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("", "an empty schema asks for nothing"),
        ("{", "the schema is no JSON"),
        ('{"type": "nothing"}', "no JSON Schema: at type"),
        ("person.json", '"person.json" is no schema'),
        ("name str, 9", "is no schema"),
        ('{"a": ' * 3000, "no JSON"),
    ],
    ids=range(6),
)
def test_what_is_no_schema_is_refused(source: str, words: str) -> None:
    with pytest.raises(errors.InvalidInput) as caught:
        schemas.load(source)
    assert words in str(caught.value)


def test_an_answer_may_stand_in_a_code_block() -> None:
    assert schemas.value('Here:\n```json\n{"name": "Ann", "age": 3}\n```\nDone.', PERSON) == {"name": "Ann", "age": 3}


@pytest.mark.parametrize("answer", ["", "no", "[]", '{"name": "Ann"}', '{"name": "Ann", "age": NaN}', "[" * 9000])
def test_an_answer_that_does_not_fit_is_told(answer: str) -> None:
    with pytest.raises(errors.UnusableReply):
        schemas.value(answer, PERSON)


@pytest.mark.parametrize("reference", ["http://127.0.0.1:9/schema.json", "#/$defs/none", "other.json"])
def test_a_schema_that_refers_elsewhere_is_refused_before_it_is_sent(reference: str) -> None:
    with pytest.raises(errors.InvalidInput) as caught:
        schemas.load({"properties": {"a": {"$ref": reference}}})
    assert "refers to what is not in it" in str(caught.value)


def test_a_schema_may_refer_to_its_own_parts() -> None:
    schema = {"$defs": {"n": {"type": "integer"}}, "properties": {"a": {"$ref": "#/$defs/n"}, "b": {"$ref": "#"}}}
    assert schemas.value('{"a": 1, "b": {"a": 2}}', schemas.load(schema)) == {"a": 1, "b": {"a": 2}}
    assert schemas.load({"$id": "http://x/y", "$ref": "http://x/y#/$defs/n", "$defs": {"n": {}}})


def test_a_retry_asks_the_person_s_prompt_again_with_its_schema(run: Command, script: Any) -> None:
    assert run("chat", "who?", "--schema", "name, age int", "-m", script("no", "never")).status == 6
    again = run("session", "retry", "@last", "--json")
    assert again.status == 6, "the schema holds for the second answer too"
    said = json.loads(run("show", "@last", "--json").out)["messages"]
    assert [m["content"] for m in said if m["origin"] == "human"] == ["who?"]


def test_one_repair_is_asked_for_and_stored(database: db.Database, script: Any) -> None:
    session = sessions.create("t", model=script("I am Ann.", '{"name": "Ann", "age": 3}'))
    reply = chat.ask(session, "who?", schema=PERSON)
    assert json.loads(reply.content) == {"name": "Ann", "age": 3}
    said = sessions.path(session)
    assert [(m.role, m.origin) for m in said] == [
        ("user", "human"), ("assistant", "model"), ("user", "harness"), ("assistant", "model"),
    ]  # fmt: skip
    assert "is no JSON" in said[2].content and "nothing but JSON" in said[2].content


def test_a_second_wrong_answer_is_kept_and_told(run: Command, script: Any) -> None:
    model = script("no", "never")
    done = run("chat", "who?", "--schema", "name, age int", "-m", model)
    assert (done.status, done.out) == (6, "")
    assert "the reply is no JSON" in done.err and "it is kept: llmsess show " in done.err
    assert [m["content"] for m in json.loads(run("show", "@last", "--json").out)["messages"]][1::2] == ["no", "never"]
    without = run("chat", "who?", "--schema", "name, age int", "-m", model, "--no-store", "--json")
    assert (without.status, without.out) == (6, "")
    assert without.err.startswith("never\n"), "what came is shown, since nothing keeps it"
    assert json.loads(without.err.splitlines()[-1])["kind"] == "unusable_reply"


def test_the_command_writes_nothing_but_json(run: Command, script: Any) -> None:
    model = script('Sure!\n```json\n{"name": "Ann", "age": 3}\n```')
    assert json.loads(run("chat", "who?", "--schema", "name, age int", "-m", model).out) == {"name": "Ann", "age": 3}
    shown = json.loads(run("chat", "who?", "--schema", "name, age int", "-m", model, "--json").out)
    assert shown["data"] == {"name": "Ann", "age": 3}
    assert shown["content"].startswith("Sure!")


def test_both_providers_are_asked_for_json_in_their_own_words(server: ChatServer, database: db.Database) -> None:
    for provider in ("openai", "anthropic"):
        with pytest.raises(errors.UnusableReply):
            chat.once("who?", model=f"{provider}/small", schema=PERSON)
    first, _, second, _ = server.requests
    assert first["response_format"]["json_schema"]["schema"] == PERSON
    assert second["output_config"]["format"]["type"] == "json_schema"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("no code", None),
        ("```python\nx = 1\n```", "x = 1"),
        ("a\n```\none\n```\nb\n~~~\ntwo\n~~~\n", "two"),
        ("````\n```\ninner\n```\n````", "```\ninner\n```"),
        ("```\nnot closed\nstill", "not closed\nstill"),
        ("  ```\n  indented\n   more\n  ```", "indented\n more"),
        ("```\n```", ""),
        ("text ``` no fence", None),
    ],
)
def test_the_last_code_block(text: str, code: str | None) -> None:
    assert codeblocks.last(text) == code


def test_the_first_code_block() -> None:
    assert codeblocks.first("```\none\n```\n```\ntwo\n```") == "one"


def test_extract_shows_only_the_last_code_block(run: Command, script: Any) -> None:
    model = script("Use this:\n\n```python\nprint(1)\n```\n\nIt prints.")
    assert run("chat", "how?", "-x", "-m", model).out == "print(1)\n"
    assert json.loads(run("chat", "how?", "-x", "-m", model, "--json").out)["code"] == "print(1)"
    none = run("chat", "hello", "-x", "-m", "echo/echo")
    assert (none.status, none.out) == (6, "")
    assert "the reply has no code block" in none.err
    assert run("show", "@last").out.count("hello") >= 2, "it is kept"


def test_schema_and_extract_exclude_each_other(run: Command) -> None:
    assert run("chat", "x", "-x", "--schema", "a", "-m", "echo/echo").status == 2
