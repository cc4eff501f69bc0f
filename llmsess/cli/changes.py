"""How snapshots, and what changed since them, are shown: as the documented JSON objects, and as text for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llmsess import snapshots
from llmsess.cli import conversation, output
from llmsess.cli.output import Row, style
from llmsess.models import Message, SessionSnapshot
from llmsess.snapshots import Change, Difference, Removal, Restored
from llmsess.texts import one_line, without_controls

SHORT = conversation.SHORT_ID
SAME_CHARACTERS = 200  # of what two texts have in common, shown on either side of what changed
SNAPSHOTS = output.Layout(
    {"id": "id", "name": "name", "type": "type", "session": "session", "messages": "messages", "keeps": "keeps",
     "created_at": "made"},
    flexible="session", spare=("keeps", "messages", "type"),
)  # fmt: skip
_MARKS = {"removed": ("-", "red"), "added": ("+", "green")}


def summary_json(row: Row) -> Row:
    """Return a row of `snapshots.summaries()` as the object that `snapshot list --json` has."""
    names = {"uuid": "id", "session": "session_id"}
    wanted = ("uuid", "name", "type", "session", "session_title", "head", "messages", "keeps", "created_at")
    return {names.get(key, key): row[key] for key in wanted}


def snapshot_json(snapshot: SessionSnapshot) -> Row:
    """Return a snapshot as that object."""
    return summary_json(snapshots.summaries([snapshot.id])[0])


def snapshot_line(row: Row) -> Row:
    """Return a snapshot's object as a person reads it in a list."""
    return {
        "id": row["id"][:SHORT],
        "name": row["name"] or "",
        "type": row["type"],
        "session": " ".join(filter(None, (row["session_id"][:SHORT], one_line(row["session_title"] or "", 70)))),
        "messages": output.number(row["messages"]),
        "keeps": output.number(row["keeps"] or None),
        "created_at": output.local_time(row["created_at"]),
    }


def snapshot_heading(row: Row, settings: dict[str, Any], context_window: list[str] | None) -> str:
    """Return what stands above the messages of a snapshot: its name, its facts, the settings of then."""
    title = one_line(row["session_title"] or "(untitled)", 200)
    name = f' · snapshot "{row["name"]}"' if row["name"] else " · snapshot"
    keeps = f"keeps {output.counted(row['keeps'], 'message')}" if row["keeps"] else ""
    facts = [
        row["id"][:SHORT], row["type"], output.local_time(row["created_at"]), f"session {row['session_id'][:SHORT]}",
        output.counted(row["messages"], "message"), keeps,
    ]  # fmt: skip
    lines = [output.wrapped(style(f"{title}{name}", bold=True)), output.wrapped(style(_joined(facts), dim=True))]
    others = {key: value for key, value in settings.items() if key != "system_prompt" and value is not None}
    said = [f"{key} {_value(value)}" for key, value in others.items()]
    lines += [output.wrapped(style(_joined(said), dim=True))] if said else []
    if context_window is not None:
        seen = output.counted(len(context_window), "message")
        lines.append(style(f"(the model was sent the last {seen})", dim=True))
    return "\n".join([*lines, *conversation.prompt_lines(settings["system_prompt"])]) + "\n"


def _joined(facts: list[str]) -> str:
    return " · ".join(one_line(fact, 200) for fact in facts if fact)


def _value(value: Any) -> str:
    return one_line(value if isinstance(value, str) else output.json_text(value), 200)


# Differences


def difference_json(found: Difference) -> Row:
    """Return a difference as the object that `snapshot diff --json` has; `to` is null for the present."""
    return {
        "from": snapshot_json(found.old),
        "to": snapshot_json(found.new) if isinstance(found.new, SessionSnapshot) else None,
        "common": found.common,
        "changes": [_change_json(change) for change in found.changes],
        "settings": {name: {"old": old, "new": new} for name, (old, new) in found.settings.items()},
    }


def _change_json(change: Change) -> Row:
    words = None if change.words is None else [{"kind": kind, "text": text} for kind, text in change.words]
    return {"kind": change.kind, "old": _side(change.old), "new": _side(change.new), "words": words}


def _side(message: Message | None) -> Row | None:
    if message is None:
        return None
    return {"id": message.uuid, "position": message.position, "role": message.role, "content": message.content}


def difference_pieces(found: Difference) -> Iterator[str]:
    """Yield a difference as a person reads it: what is common, each change, the settings."""
    old = f"snapshot {_name(found.old)}"
    new = f"snapshot {_name(found.new)}" if isinstance(found.new, SessionSnapshot) else "now"
    yield style(f"{old} → {new}", bold=True) + "\n"
    yield style(f"{output.counted(found.common, 'message')} in common", dim=True) + "\n"
    for name, (before, after) in found.settings.items():
        yield f"\n{style(name.replace('_', ' '), bold=True)}\n{_setting_text(before, after)}"
    for change in found.changes:
        yield "\n" + _change_text(change)
    if not found.changes and not found.settings:
        yield "\nNothing has changed.\n"


def _setting_text(before: Any, after: Any) -> str:
    words = snapshots.words_between(before, after) if isinstance(before, str) and isinstance(after, str) else None
    if words is not None:
        return f"{output.styled_prose(_words_text(words))}\n"
    sides = (("removed", before), ("added", after))
    return "".join(_marked(mark, _value(value)) for mark, value in sides if value is not None)


def _name(snapshot: SessionSnapshot) -> str:
    return f'{snapshot.uuid[:SHORT]} "{one_line(snapshot.name, 60)}"' if snapshot.name else str(snapshot.uuid[:SHORT])


def _change_text(change: Change) -> str:
    sides = [("removed", change.old), ("added", change.new)]
    if change.old is not None and change.new is not None and change.words is not None:
        heading = f"~ {change.new.role} {change.old.uuid[:SHORT]} → {change.new.uuid[:SHORT]}"
        return f"{style(heading, bold=True)}\n{output.styled_prose(_words_text(change.words))}\n"
    return "".join(_message_text(kind, message) for kind, message in sides if message is not None)


def _message_text(kind: str, message: Message) -> str:
    sign, colour = _MARKS[kind]
    heading = style(f"{sign} {message.role} {message.uuid[:SHORT]}", fg=colour, bold=True)
    said = message.content or message.tool_text or message.error or ""
    return f"{heading}\n{''.join(_marked(kind, line) for line in without_controls(said).splitlines())}"


def _marked(kind: str, line: str) -> str:
    sign, colour = _MARKS[kind]
    return style(f"{sign} {line}", fg=colour) + "\n"


def _words_text(words: list[tuple[str, str]]) -> str:
    """Return the words of two texts in one: removed and added ones marked, long stretches of the same left out."""
    plain = style("x") == style("x", fg="red")
    shown = []
    for kind, text in words:
        text = without_controls(text)
        if kind == "same":
            shown.append(_shortened(text))
        elif plain:
            shown.append(f"[-{text}-]" if kind == "removed" else f"{{+{text}+}}")
        else:
            shown.append(style(text, fg=_MARKS[kind][1], strikethrough=kind == "removed"))
    return "".join(shown)


def _shortened(text: str) -> str:
    if len(text) <= 2 * SAME_CHARACTERS + 1:
        return text
    return f"{text[:SAME_CHARACTERS]} … {text[-SAME_CHARACTERS:]}"


# What was done


def restored_lines(restored: Restored, *, in_place: bool) -> list[str]:
    """Return what a person should know after a restore: where it goes on, and how it is undone."""
    name = restored.session.uuid[:SHORT]
    go_on = f"To go on: llmsess chat --session {name}"
    if not in_place:
        return [f"{go_on}. The other session is as it was; to undo: llmsess session delete {name}"]
    if not restored.is_moved:
        return [f"{go_on}. It is as the snapshot has it."]
    if restored.before is None:
        return [f"{go_on}. Where it was is gone, so there is no way back."]
    return [f"{go_on}. To undo: llmsess snapshot restore {restored.before.uuid[:SHORT]} --in-place"]


def removed_line(row: Row) -> str:
    """Return a row of `snapshots.summaries()` as a line that says what goes with it."""
    line = snapshot_line(summary_json(row))
    keeps = f", keeps {output.counted(row['keeps'], 'message')} that nothing else reaches" if row["keeps"] else ""
    name = f' "{one_line(line["name"], 60)}"' if line["name"] else ""
    made = f"{line['type']} of {line['created_at']}, session {line['session']}"
    return f"{line['id']}{name}: {made}{keeps}"


def removal_words(removal: Removal) -> str:
    """Return what goes, in words: `3 snapshots of 2 sessions`."""
    gone = output.counted(len(removal.snapshots), "snapshot")
    also = f", and {output.counted(removal.messages, 'message')} of deleted sessions" if removal.messages else ""
    return f"{gone} of {output.counted(removal.sessions, 'session')}{also}"
