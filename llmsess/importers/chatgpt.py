"""ChatGPT's data export: a zip with `conversations.json`, or `conversations-000.json` and so on; or one conversation.

A conversation is a tree of nodes (`mapping`), of which `current_node` is where it stands. What is special:
- Neither the parents nor the children of nodes can be relied on alone; a node without a message is left out of the
  tree; there may be several roots, and circles.
- System, hidden and tool messages stay, marked as hidden where they are. Custom instructions have the role user.
- A call of a tool is a message to a `recipient`; there are no call ids.
- There are no token counts. The model is told by message, else by conversation.
- Files lie beside in the archive, under names that begin with the id of the asset.
"""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Iterator
from typing import Any

from llmsess.errors import InvalidInput
from llmsess.importers import blocks
from llmsess.importers.base import Bad, Item, MessageRecord, SessionRecord, Whole
from llmsess.importers.reading import (
    digest,
    mapping,
    mappings,
    moment,
    number_or_none,
    parsed,
    records,
    reference,
    sequence,
    text_or_none,
)
from llmsess.importers.source import Head, Source
from llmsess.parts import Packed, pack

NAME = "chatgpt"
DESCRIPTION = "ChatGPT's data export (.zip, conversations.json, split files, one conversation)"
PLACES = ()
ROLES = {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
ORIGINS = {"user": "human", "assistant": "model", "tool": "tool"}
TEXTUAL = ("code", "execution_output", "user_editable_context", "tether_quote", "tether_browsing_display",
           "sonic_webpage", "system_error", "model_editable_context", "text", "multimodal_text")  # fmt: skip
MAX_ASSET_BYTES = 64 * 1024 * 1024  # a larger file stays outside
TOLD = ("gizmo_id", "gizmo_type", "is_archived", "is_starred", "conversation_template_id", "update_time")


def matches(head: Head) -> bool:
    """Return whether the first objects are conversations with a tree of nodes."""
    found = [inner for record in head.objects for inner in (record, *mappings(record.get("conversations")))]
    return any(_is_tree(record.get("mapping")) for record in found)


def _is_tree(nodes: Any) -> bool:
    return isinstance(nodes, dict) and all(
        isinstance(node, dict) and ("message" in node or "children" in node) for node in list(nodes.values())[:5]
    )


def read(source: Source) -> Iterator[Item]:
    """Yield the conversations of a file of an export."""
    assets = _Assets(source)
    for record, value, problem in records(source, "conversations"):
        if problem is not None or not isinstance(value, dict):
            yield Bad(record, problem or "the conversation is no object")
        elif not isinstance(value.get("mapping"), dict):
            yield Bad(record, "a conversation without its messages (mapping)")
        else:
            yield from _Conversation(value, assets).items()
            record = record._replace(external_id=text_or_none(value.get("conversation_id") or value.get("id")))
            yield Whole(record, assets.problems.copy())
            assets.problems.clear()


class _Assets:
    """The files beside a conversations file, found by the beginning of their names."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.names: dict[str, Source] | None = None
        self.problems: list[str] = []  # of files that are there and cannot be taken along

    def find(self, asset_id: str) -> Source | None:
        """Return the file of an asset, `file-...` or `file_...`, None where it is not in the export."""
        if self.names is None:
            self.names = {file.name.replace("\\", "/").rpartition("/")[2]: file for file in self.source.near()}
        return next((file for name, file in self.names.items() if asset_id and name.startswith(asset_id)), None)

    def block(self, pointer: str, kind: str, more: dict[str, Any]) -> blocks.Block | None:
        """Return a block with the bytes of an asset, None where they are not there."""
        file = self.find(pointer.rpartition("/")[2].partition("#")[0])
        try:
            data = file.read(MAX_ASSET_BYTES) if file is not None else None
        except (InvalidInput, OSError) as error:
            self.problems.append(f"{file.name if file else pointer} is left out: {error}")
            return None
        if file is not None and data is None:
            self.problems.append(f"{file.name} is left out: it is damaged or larger than 64 MiB")
        if file is None or data is None:
            return None
        return blocks.media(kind, mimetypes.guess_type(file.name)[0], data, **more)


class _Conversation:
    """One conversation, its nodes in an order in which parents come first."""

    def __init__(self, value: dict[str, Any], assets: _Assets) -> None:
        self.value, self.assets = value, assets
        named = text_or_none(value.get("conversation_id")) or text_or_none(value.get("id"))
        self.id = named or f"sha256:{digest(value.get('title'), value.get('create_time'), sorted(value['mapping']))}"
        self.nodes = {key: node for key, node in value["mapping"].items() if isinstance(node, dict)}
        self.parents = self._parents()

    def _parents(self) -> dict[str, str]:
        """Return each node's parent, as it or its parent tells."""
        told = {
            child: key
            for key, node in self.nodes.items()
            for child in sequence(node.get("children"))
            if isinstance(child, str) and child in self.nodes
        }
        own = {key: node.get("parent") for key, node in self.nodes.items()}
        return told | {key: parent for key, parent in own.items() if isinstance(parent, str) and parent in self.nodes}

    def order(self) -> list[str]:
        """Return the nodes, each after its parent; those of a circle as if they had none."""
        placed: dict[str, None] = {}
        for key in self.nodes:
            above, met = [key], {key}
            while (parent := self.parents.get(above[-1])) is not None and parent not in placed and parent not in met:
                above.append(parent)
                met.add(parent)
            placed |= dict.fromkeys(node for node in reversed(above) if node not in placed)
        return list(placed)

    def nearest(self, order: list[str]) -> dict[str | None, str | None]:
        """Return for each node the nearest one with a message, from itself on upwards."""
        found: dict[str | None, str | None] = {}
        for key in order:
            found[key] = key if self.message(key) else found.get(self.parents.get(key))
        return found

    def message(self, key: str) -> dict[str, Any]:
        return mapping(self.nodes[key].get("message"))

    def items(self) -> Iterator[Item]:
        """Yield the session and its messages."""
        value, order = self.value, self.order()
        nearest = self.nearest(order)
        above = {key: nearest.get(self.parents.get(key)) for key in order if self.message(key)}
        current = text_or_none(value.get("current_node"))
        head = nearest[current] if current in nearest else self.newest_leaf(above)
        default = text_or_none(value.get("default_model_slug"))
        yield SessionRecord(
            self.id,
            title=text_or_none(value.get("title")),
            model=reference("openai", default),
            started_at=moment(value.get("create_time")),
            head=f"{self.id}/{head}" if head else None,
            updated_at=moment(value.get("update_time")),
            metadata={key: value[key] for key in TOLD if value.get(key)} or None,
        )
        placed: set[str] = set()
        for key, parent in above.items():
            yield self.record(key, parent if parent in placed else None, default)
            placed.add(key)

    def newest_leaf(self, above: dict[str, str | None]) -> str | None:
        inner = set(above.values())
        leaves = [key for key in above if key not in inner]
        return max(leaves, key=lambda key: number_or_none(self.message(key).get("create_time")) or 0, default=None)

    def record(self, key: str, parent: str | None, default: str | None) -> MessageRecord:
        message = self.message(key)
        author, told = mapping(message.get("author")), mapping(message.get("metadata"))
        role = ROLES.get(str(author.get("role")), "event")
        content = mapping(message.get("content"))
        hidden = bool(told.get("is_visually_hidden_from_conversation"))
        instructions = content.get("content_type") == "user_editable_context" or told.get("is_user_system_message")
        model = text_or_none(told.get("model_slug")) or default
        return MessageRecord(
            self.id,
            f"{self.id}/{key}",
            f"{self.id}/{parent}" if parent else None,
            role,
            "harness" if instructions else ORIGINS.get(role, "harness"),
            self.packed(role, message, content, told),
            model=reference("openai", model) if role == "assistant" else None,
            finish_reason=text_or_none(mapping(told.get("finish_details")).get("type")),
            created_at=moment(message.get("create_time")),
            metadata=_marks(message, author, hidden),
        )

    def packed(self, role: str, message: dict[str, Any], content: dict[str, Any], told: dict[str, Any]) -> Packed:
        """Return the content of a message, with its files where they are in the export."""
        recipient = text_or_none(message.get("recipient"))
        said = list(self.said(content))
        pointed = {str(block.get("asset_pointer")) for block in said}
        for attached in mappings(told.get("attachments")):
            name = text_or_none(attached.get("id"))
            if name and not any(name in pointer for pointer in pointed):
                about = {"file_name": attached.get("name"), "size_bytes": attached.get("size")}
                said.append(self.assets.block(name, "file", about) or {"type": "file", "file_id": name, **about})
        if role == "tool":
            return pack([blocks.tool_result(None, said, mapping(message.get("author")).get("name"))])
        if role == "assistant" and recipient not in (None, "all"):
            spoken = "".join(block["text"] for block in said if block["type"] == "text")
            return pack([blocks.tool_use(None, recipient, parsed(spoken))])
        return pack(said)

    def said(self, content: dict[str, Any]) -> Iterator[blocks.Block]:
        """Yield the blocks of a content object, of which there are many types."""
        kind = content.get("content_type")
        if kind == "thoughts":
            for thought in mappings(content.get("thoughts")):
                thoughts = (text_or_none(thought.get(key)) for key in ("summary", "content"))
                yield blocks.thinking("\n\n".join(filter(None, thoughts)))
        elif kind == "reasoning_recap":
            yield blocks.thinking(str(content.get("content") or ""))
        elif isinstance(content.get("parts"), list):
            for part in content["parts"]:
                yield from self.part(part)
        else:
            told = [text_or_none(content.get(key)) for key in ("title", "url", "text", "result", "summary", "name")]
            own = [content.get(key) for key in ("user_profile", "user_instructions")]
            spoken = "\n".join(filter(None, [*told, *map(text_or_none, own)]))
            if spoken or content:
                yield blocks.text(spoken or json.dumps(content, ensure_ascii=False))
            if content and kind not in TEXTUAL:
                yield {"type": str(kind), "content": content}

    def part(self, part: Any) -> Iterator[blocks.Block]:
        if isinstance(part, str):
            if part:
                yield blocks.text(part)
        elif isinstance(part, dict):
            pointer, kind = str(part.get("asset_pointer") or ""), str(part.get("content_type") or "")
            shape = next((shape for shape in ("image", "audio", "video", "file") if kind.startswith(shape)), kind)
            if isinstance(part.get("text"), str):
                yield blocks.text(part["text"])
            else:
                yield self.assets.block(pointer, shape, part) or {**part, "type": shape}


def _marks(message: dict[str, Any], author: dict[str, Any], hidden: bool) -> dict[str, Any] | None:
    """Return what tells how a message was shown and to whom it went."""
    marks: dict[str, Any] = {"hidden": True} if hidden else {}
    if message.get("weight") in (0, 0.0):
        marks["weight"] = 0
    for key in ("recipient", "channel"):
        if text_or_none(message.get(key)) and message[key] != "all":
            marks[key] = message[key]
    if text_or_none(author.get("name")):
        marks["name"] = author["name"]
    return marks or None
