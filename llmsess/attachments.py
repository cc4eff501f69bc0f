"""Attachments: files, URLs and bytes that go with a prompt. Each is stored once by its content, in `blobs`.

The message's block says what it is called: `{"type": "image" | "audio" | "document", "source": {...}, "title"}`.
"""

from __future__ import annotations

import base64
import mimetypes
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmsess import providers, sessions
from llmsess.db import database
from llmsess.errors import InvalidInput
from llmsess.models import Message, Session
from llmsess.settings import expanded
from llmsess.texts import one_line

_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+")
MAX_NAME_BYTES = 200  # of a file that is written; most systems take 255
MAX_BYTES = 64 * 1024 * 1024  # of one: more no provider takes
_SIGNATURES = (  # (offset, bytes, type): what a file is, whatever it is called
    (0, b"\x89PNG\r\n\x1a\n", "image/png"), (0, b"\xff\xd8\xff", "image/jpeg"), (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"), (0, b"%PDF-", "application/pdf"), (8, b"WAVE", "audio/wav"), (0, b"ID3", "audio/mpeg"),
    (0, b"\xff\xfb", "audio/mpeg"), (0, b"fLaC", "audio/flac"), (0, b"OggS", "audio/ogg"),
    (0, b"PK\x03\x04", "application/zip"),
)  # fmt: skip


@dataclass(frozen=True)
class Attachment:
    """Bytes with their media type, as `image/png`, and what they are called."""

    data: bytes = field(repr=False)
    media_type: str
    name: str | None = None

    def block(self) -> dict[str, Any]:
        """Return it as the block of a message."""
        kind = self.media_type.partition("/")[0]
        encoded = base64.b64encode(self.data).decode()
        block = {
            "type": kind if kind in ("image", "audio") else "document",
            "source": {"type": "base64", "media_type": self.media_type, "data": encoded},
        }
        return block | ({"title": self.name} if self.name else {})


Source = Attachment | str | os.PathLike[str]  # what can be attached: bytes, a path, a URL


def load(source: Source, media_type: str | None = None) -> Attachment:
    """Return what a path or an http(s) URL holds; its type is told by its bytes, then by its name, unless given.

    Raises InvalidInput where there is nothing, or too much, ProviderError where a URL does not answer.
    """
    if isinstance(source, Attachment):
        return source
    if media_type is not None and not _TYPE.fullmatch(media_type):
        raise InvalidInput(f'"{one_line(media_type, 40)}" is no media type', hint="as image/png")
    if isinstance(source, str) and source.lower().startswith(("http://", "https://")):
        data, name, said = providers.fetch(source, MAX_BYTES)
        known = media_type or _sniffed(data) or said
    else:
        path = expanded(source)
        data, name, known = _read(path), path.name, media_type
    return attachment(data, name, known)


def attachment(data: bytes, name: str | None = None, media_type: str | None = None) -> Attachment:
    """Return bytes as an attachment; raises InvalidInput where there are none, or too many."""
    if not data:
        raise InvalidInput(f"{name or 'the attachment'} is empty")
    if len(data) > MAX_BYTES:
        raise InvalidInput(f"{name or 'the attachment'} is larger than {MAX_BYTES // 1024**2} MiB")
    return Attachment(data, media_type or type_of(data, name), one_line(name, 200) if name else None)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInput(f"the attachment {path} cannot be read: {reason}") from error


def type_of(data: bytes, name: str | None = None) -> str:
    """Return the media type of bytes: by their signature, as text, by the name's ending, else unknown bytes."""
    known = _sniffed(data)
    if known is not None:
        return known
    guess = mimetypes.guess_type(name)[0] if name else None
    try:
        text = b"\x00" not in data and bool(data.decode())
    except UnicodeDecodeError:
        text = False
    if text:  # a program's .ts is no video
        return guess if guess and providers.is_text(guess) else "text/plain"
    return guess or "application/octet-stream"


def _sniffed(data: bytes) -> str | None:
    return next((kind for at, mark, kind in _SIGNATURES if data[at : at + len(mark)] == mark), None)


# What is stored


@dataclass(frozen=True)
class Stored:
    """An attachment of a message: its place there (from 0), name, media type, size and hash."""

    message: str
    position: int
    name: str | None
    media_type: str | None
    size_bytes: int
    sha256: str

    def data(self) -> bytes:
        """Return its bytes."""
        row = database.execute_sql("SELECT data FROM blobs WHERE sha256 = ?", (self.sha256,)).fetchone()
        return bytes(row[0])


_OF_MESSAGE = """
    SELECT mb.position, b.size_bytes, b.sha256, b.media_type FROM message_blobs mb JOIN blobs b ON b.id = mb.blob_id
    WHERE mb.message_id = ? ORDER BY mb.position
"""


def of_message(message: Message) -> list[Stored]:
    """Return the attachments of a message, in its order."""
    if message.parts is None:
        return []
    named, found = dict(_named(message.parts)), []
    for position, size_bytes, sha256, media_type in database.execute_sql(_OF_MESSAGE, (message.id,)).fetchall():
        name, said = named.get(position, (None, None))
        found.append(Stored(message.uuid, position, name, said or media_type, size_bytes, sha256))
    return found


def _named(part: Any) -> Iterator[tuple[int, tuple[str | None, str | None]]]:
    """Yield the position of each attachment that a message's parts refer to, with its name and type there."""
    if isinstance(part, list):
        for inner in part:
            yield from _named(inner)
    elif isinstance(part, dict):
        source = part.get("source")
        if isinstance(source, dict) and isinstance(source.get("data"), list):
            yield source["data"][1], (part.get("title"), source.get("media_type"))
        elif "json" not in part:
            yield from _named(list(part.values()))


def of_session(session: str | Session) -> list[Stored]:
    """Return the attachments of a session's messages, from the root on; raises NotFound."""
    return [found for message in sessions.path(session) for found in of_message(message)]


def save(session: str | Session, folder: str | os.PathLike[str]) -> list[Path]:
    """Write the attachments of a session into a folder, made if new, and return the files; none is overwritten.

    Raises NotFound, InvalidInput where the folder cannot be written.
    """
    place, written = expanded(folder), []
    try:
        place.mkdir(parents=True, exist_ok=True)
        for found in of_session(session):
            path = _free(place, found)
            if path is not None:
                path.write_bytes(found.data())
                written.append(path)
    except OSError as error:
        raise InvalidInput(f"{place} cannot be written: {error.strerror}") from error
    return written


def _free(folder: Path, found: Stored) -> Path | None:
    """Return a file that is not there yet, None where the attachment is there already, from a save before."""
    ending = mimetypes.guess_extension(found.media_type or "") or ""
    name = Path(found.name.replace("\\", "/")).name.lstrip(".") if found.name else ""
    plain = name if 0 < len(name.encode()) <= MAX_NAME_BYTES else f"{found.sha256[:12]}{ending}"
    for number in range(1, 10_000):
        path = folder / (plain if number == 1 else f"{Path(plain).stem}-{number}{Path(plain).suffix}")
        if not path.exists():
            return path
        if path.stat().st_size == found.size_bytes and path.read_bytes() == found.data():
            return None
    raise InvalidInput(f"{folder} has too many files named {plain}")
