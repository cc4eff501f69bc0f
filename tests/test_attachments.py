"""Files, URLs and piped bytes that go with a prompt: what is sent, stored once, shown and given back."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from llmsess import attachments, chat, db, errors, maintenance, sessions
from llmsess.attachments import Attachment
from llmsess.models import Blob, Message
from tests.conftest import Command
from tests.server import Answer, ChatServer

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "cat.png"
    path.write_bytes(PNG)
    return path


@pytest.mark.parametrize(
    ("data", "name", "kind"),
    [
        (PNG, "cat.txt", "image/png"),
        (b"\xff\xd8\xff\xe0", None, "image/jpeg"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", None, "image/webp"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "x", "audio/wav"),
        (b"%PDF-1.7", "x.doc", "application/pdf"),
        (b"x = 1", "x.py", "text/x-python"),
        (b"# Title", "x.md", "text/markdown"),
        ("grün".encode(), None, "text/plain"),
        (b"\x00\x01", "x.bin", "application/octet-stream"),
        (b"\x00\x01", None, "application/octet-stream"),
    ],
)
def test_what_bytes_are_is_told_by_their_content_then_by_their_name(data: bytes, name: str | None, kind: str) -> None:
    assert attachments.type_of(data, name) == kind


def test_a_picture_goes_to_openai_and_anthropic_in_their_own_words(
    server: ChatServer, database: db.Database, picture: Path
) -> None:
    for provider in ("openai", "anthropic"):
        chat.ask(sessions.create(provider, model=f"{provider}/small"), "what is it?", attachments=[picture])
    encoded = base64.b64encode(PNG).decode()
    first, second = (request["messages"][-1]["content"] for request in server.requests)
    assert first[0] == {"type": "text", "text": "what is it?"}
    assert first[1] == {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded}"}}
    source = {"type": "base64", "media_type": "image/png", "data": encoded}
    assert second[1]["type"] == "image" and second[1]["source"] == source


def test_the_same_bytes_are_stored_once_and_given_back_exactly(
    database: db.Database, server: ChatServer, picture: Path, tmp_path: Path
) -> None:
    session = sessions.create("t", model="openai/small")
    chat.ask(session, "one", attachments=[picture])
    chat.ask(session, "two", attachments=[Attachment(PNG, "image/png", "other.png"), Attachment(b"x", "text/plain")])
    assert Blob.select().count() == 2
    found = attachments.of_session(session)
    assert [(one.name, one.media_type, one.size_bytes) for one in found] == [
        ("cat.png", "image/png", len(PNG)), ("other.png", "image/png", len(PNG)), (None, "text/plain", 1),
    ]  # fmt: skip
    assert found[0].data() == PNG
    written = attachments.save(session, tmp_path / "out")
    assert sorted(path.name for path in written) == [f"{found[2].sha256[:12]}.txt", "cat.png", "other.png"]
    assert (tmp_path / "out" / "cat.png").read_bytes() == PNG
    assert attachments.save(session, tmp_path / "out") == [], "what is there is not written again"
    assert len(server.requests[1]["messages"][0]["content"]) == 2, "the first picture goes along in the second turn"
    assert maintenance.check().findings == []


def test_a_name_never_leaves_the_folder(database: db.Database, server: ChatServer, tmp_path: Path) -> None:
    session = sessions.create("t", model="openai/small")
    names = ["../../evil.txt", "/etc/evil.txt", "..\\..\\evil2.txt", ".bashrc", "a\nb.txt", ".."]
    chat.ask(session, "x", attachments=[Attachment(str(i).encode(), "text/plain", n) for i, n in enumerate(names)])
    folder = tmp_path / "deep" / "out"
    written = attachments.save(session, folder)
    assert len(written) == 6
    assert {path.resolve().parent for path in written} == {folder.resolve()}
    assert not [path.name for path in written if path.name.startswith(".")]


def test_a_text_file_is_read_by_the_model_under_its_name(server: ChatServer, run: Command, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("milk and eggs")
    assert run("chat", "what to buy?", "-a", str(file), "-m", "openai/small").status == 0
    content = server.requests[0]["messages"][-1]["content"]
    assert {"type": "text", "text": "notes.txt:\n\nmilk and eggs"} in content


def test_the_command_attaches_files_urls_and_what_is_piped(
    server: ChatServer, run: Command, picture: Path, tmp_path: Path
) -> None:
    server.answers["models"] = Answer("image/png", PNG)
    url = f"{server.url}/models/pic.png"
    done = run(
        "chat", "see", "-a", "-", "-a", url, "--at", str(picture), "image/x-odd", "-m", "openai/small", stdin=PNG
    )
    assert done.status == 0, done.err
    listed = json.loads(run("session", "attachments", "@last", "--json").out)
    assert [(one["name"], one["media_type"]) for one in listed] == [
        (None, "image/png"), ("pic.png", "image/png"), ("cat.png", "image/x-odd"),
    ]  # fmt: skip
    assert list(listed[0]) == ["message", "position", "name", "media_type", "size_bytes", "sha256"]
    assert "[cat.png, image/x-odd, 264 bytes]" in run("show", "@last").out
    shown = json.loads(run("show", "@last", "--json").out)["messages"][0]["parts"]
    assert shown[1]["source"]["data"] == base64.b64encode(PNG).decode(), "JSON gives the bytes back"
    assert "Wrote" in run("session", "attachments", "@last", "-o", str(tmp_path / "out")).err
    assert (tmp_path / "out" / "pic.png").read_bytes() == PNG


def test_what_cannot_be_attached_is_refused_before_anything_is_written(
    run: Command, tmp_path: Path, server: ChatServer
) -> None:
    empty = tmp_path / "empty.png"
    empty.write_bytes(b"")
    for args, status in {
        ("-a", str(tmp_path / "none.png")): 2,
        ("-a", str(empty)): 2,
        ("-a", str(tmp_path)): 2,
        ("-a", "-"): 2,
        ("-a", "http://127.0.0.1:1/x.png"): 4,
        ("-a", "http://[::bad/"): 2,
        ("--at", str(empty), "no type"): 2,
        ("-a", f"{server.url}/models", "-m", "openai/small", "-o", "api_key", "x"): 2,
    }.items():
        done = run("chat", "see", "-m", "openai/small", *args)
        assert (done.status, done.out, "Traceback" in done.err) == (status, "", False), (args, done)
    assert run("list", "--json").out == "[]\n"
    assert server.requests == []


def test_an_attachment_alone_is_a_prompt(server: ChatServer, run: Command, picture: Path) -> None:
    assert run("chat", "-a", str(picture), "-m", "openai/small").status == 0
    assert [part["type"] for part in server.requests[0]["messages"][-1]["content"]] == ["image_url"]


def test_a_type_that_a_provider_does_not_take_is_refused_and_nothing_is_written(
    server: ChatServer, database: db.Database
) -> None:
    session = sessions.create("t", model="anthropic/small")
    with pytest.raises(errors.InvalidInput):
        chat.ask(session, "hear", attachments=[Attachment(b"ID3x", "audio/mpeg", "a.mp3")])
    assert Message.select().count() == 0 and server.requests == []
