"""Other tools' real files give the counts that TRUTH.json has of them, and give them again the second time."""

from __future__ import annotations

import contextlib
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmsess import analytics, db, errors, importers, maintenance, sessions, transfer
from llmsess.importers.base import InputRecord, MessageRecord, SessionRecord
from llmsess.importers.source import Source
from llmsess.models import Session
from tests import specimens
from tests.conftest import FUZZ

OPENAI = (
    "openai-messages/openai-cookbook/toy_chat_fine_tuning.jsonl",
    "openai-messages/openai-batch-quickstart/batchinput.jsonl",
    "openai-messages/LLaMA-Factory/mllm_demo.json",
)
_ROWS = """
    SELECT m.role, m.input_tokens, m.output_tokens, m.cached_input_tokens, m.cache_write_tokens, m.cost FROM messages m
    WHERE m.id IN (SELECT r.message_id FROM import_records r JOIN import_sources s ON s.id = r.source_id WHERE s.path = ?)
"""


def truth(samples: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((samples / "TRUTH.json").read_text())
    return found


def rows_of(path: Path) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = db.database.execute_sql(_ROWS, (str(path.absolute()),)).fetchall()
    return rows


def compare(path: Path, expected: dict[str, Any]) -> None:
    """Check the messages that a Claude Code file became against what was counted in it independently."""
    rows = rows_of(path)
    roles = Counter(row[0] for row in rows)
    typed = {kind: n for kind, n in expected["types"].items() if kind in ("user", "assistant")}
    if typed:
        assert roles["user"] == expected["user_prompt_lines"]
        assert roles["tool"] == expected["user_toolresult_lines"]
        assert roles["assistant"] == expected["assistant_distinct_msgid"]
        fresh, output, written, cached = expected["usage_last"]
        sums = [sum(row[column] or 0 for row in rows) for column in (1, 2, 3, 4)]
        assert sums == [fresh + written + cached, output, cached, written]
    else:  # minimal lines, which name no type
        assert roles == {"assistant": expected["lines"]}
    if expected.get("costUSD"):
        assert sum(row[5] or 0 for row in rows) == round(expected["costUSD"] * 1e9)


def test_claude_code_samples_twice(database: db.Database, samples: Path) -> None:
    files = {key: value for key, value in truth(samples).items() if key.startswith("claude-code/")}
    assert len(files) >= 29
    for again in (False, True):
        for key, expected in files.items():
            [source] = transfer.run("auto", [samples / key]).sources
            assert sum(source.records.values()) == expected["lines"] + expected["bad"], key
            assert source.records["bad"] == expected["bad"] + expected["nondict"], key
            if again:
                assert source.records["imported"] == source.records["merged"] == 0, key
            compare(samples / key, expected)
    assert maintenance.check().findings == []


def test_openai_samples_twice(database: db.Database, samples: Path) -> None:
    facts = truth(samples)
    for again in (False, True):
        for key in OPENAI:
            [source] = transfer.run("auto", [samples / key]).sources
            assert source.messages == facts[key]["messages"]
            assert sum(source.records.values()) == facts[key]["records"]
            assert source.records["duplicate" if again else "imported"] == facts[key]["records"]
    roles = dict(database.execute_sql("SELECT role, count(*) FROM messages GROUP BY role").fetchall())
    expected: Counter[str] = sum((Counter(facts[key]["roles"]) for key in OPENAI), Counter())
    assert roles == dict(expected)


def tokens_of(path: Path) -> list[int]:
    """Return the sums of input, cached, output and reasoning tokens and of cost of the messages in a file's sessions."""
    row = db.database.execute_sql(
        "SELECT sum(input_tokens), sum(cached_input_tokens), sum(output_tokens), sum(reasoning_tokens), sum(cost) "
        "FROM messages"
    ).fetchone()
    return [value or 0 for value in row]


def roles() -> Counter[str]:
    return Counter(dict(db.database.execute_sql("SELECT role, count(*) FROM messages GROUP BY role").fetchall()))


def alone(path: Path, times: int = 2) -> transfer.SourceReport:
    """Import a file into an emptied database, twice; return the first report."""
    for table in ("import_records", "import_sources", "message_blobs", "messages", "sessions"):
        db.database.execute_sql(
            "UPDATE sessions SET head_id = NULL, parent_session_id = NULL" if table == "messages" else "SELECT 1"
        )
        db.database.execute_sql(f"DELETE FROM {table}")
    first = transfer.run("auto", [path]).sources[0]
    stored = db.database.execute_sql("SELECT uuid FROM messages ORDER BY id").fetchall()
    for _ in range(times - 1):
        again = transfer.run("auto", [path])
        assert again.totals()["imported"] == again.totals()["merged"] == 0
        assert sum(again.sources[0].records.values()) == sum(first.records.values())
        assert db.database.execute_sql("SELECT uuid FROM messages ORDER BY id").fetchall() == stored
    assert maintenance.check().findings == []
    return first


def test_chatgpt_samples(database: db.Database, samples: Path) -> None:
    files = {key: value for key, value in truth(samples).items() if key.startswith("chatgpt/")}
    assert len(files) >= 5
    for key, conversations in files.items():
        report = alone(samples / key)
        assert (report.sessions, report.records["bad"]) == (len(conversations), 0)
        assert sum(report.records.values()) == len(conversations)
        for expected in conversations:
            session = sessions.get(expected["title"]) if expected["title"] else None
            if session is None:
                continue
            nodes, path = sessions.nodes(session), sessions.path(session)
            assert len(nodes) == expected["messages"], key
            assert Counter(message.role for message in nodes) == Counter(expected["roles"])
            if expected["path_msgs"]:
                assert len(path) == expected["path_msgs"]
                assert Counter(message.role for message in path) == Counter(expected["path_roles"])
            hidden = sum(bool((message.metadata or {}).get("hidden")) for message in nodes)
            assert hidden == expected["hidden"]
            parents = {message.parent_id for message in nodes}
            assert sum(message.id not in parents for message in nodes) == (
                expected["leaves"] if expected["messages"] else 0
            )


def test_claude_ai_samples(database: db.Database, samples: Path) -> None:
    files = {key: value for key, value in truth(samples).items() if key.startswith("claude-ai/")}
    assert len(files) >= 6
    for key, conversations in files.items():
        if not isinstance(conversations, list):
            report = alone(samples / key)
            assert report.problems and report.unknown, "what is malformed on purpose is reported"
        elif "no_chat_messages" in conversations[0]:
            with pytest.raises(errors.Unrecognised, match="invalid"):
                transfer.run("auto", [samples / key])
        else:
            report = alone(samples / key)
            assert report.sessions == len(conversations)
            expected: Counter[str] = sum((Counter(one["senders"]) for one in conversations), Counter())
            assert roles() == Counter({"user": expected["human"], "assistant": expected["assistant"]})
            assert report.messages == sum(one["msgs"] for one in conversations)


def test_codex_samples(database: db.Database, samples: Path) -> None:
    files = {key: value for key, value in truth(samples).items() if key.startswith("codex/")}
    assert len(files) >= 17
    for key, expected in files.items():
        report = alone(samples / key)
        assert sum(report.records.values()) == expected["lines"] + expected["bad"], key
        total = expected["final_total"]
        if total:
            names = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_output_tokens")
            assert tokens_of(samples / key)[:4] == [total[name] for name in names], key
        if expected["msg_roles"] and not expected["calls"]:
            assert roles()["user"] == expected["msg_roles"].get("user", 0)


def test_a_codex_fork_counts_what_it_repeats_once_in_either_order(
    template: Path, tmp_path: Path, samples: Path
) -> None:
    folder = samples / "codex/CodexBar/archived-fork-33ce-3869/codex-home/archived_sessions"
    expected = truth(samples)["codex/CodexBar/archived-fork-33ce-3869/codex-home/archived_sessions/child.jsonl"]
    for order in (("parent", "child"), ("child", "parent")):
        path = tmp_path / f"{order[0]}.db"
        path.write_bytes(template.read_bytes())
        db.connect(path)
        for _ in range(2):
            transfer.run("auto", [folder / f"{name}.jsonl" for name in order])
        total = expected["final_total"]
        assert tokens_of(folder)[0] == total["input_tokens"]
        assert tokens_of(folder)[2] == total["output_tokens"]
        child = Session.get(Session.external_id == "child-session")
        assert child.parent_session.external_id == "parent-session"
        assert child.relation == "fork"
        assert len(sessions.path(child)) == expected["distinct_totals"]
        assert maintenance.check().findings == []
        db.database.close()


def test_gemini_samples(database: db.Database, samples: Path) -> None:
    files = {key: value for key, value in truth(samples).items() if key.startswith("gemini-cli/")}
    assert len(files) >= 8
    for key, expected in files.items():
        report = alone(samples / key)
        assert (report.sessions, report.messages) == (1, expected["messages"]), key
        tokens = Counter(expected["tokens"])
        given, cached, written, thought, _ = tokens_of(samples / key)
        assert (given, written) == (tokens["input"] + tokens["tool"], tokens["output"] + tokens["thoughts"]), key
        assert (cached, thought) == (tokens["cached"], tokens["thoughts"])
        kinds = Counter(expected["types"])
        assert roles() == +Counter(
            user=kinds["user"], assistant=kinds["gemini"] + kinds["model"],
            event=kinds["info"] + kinds["error"] + kinds["warning"],
        )  # fmt: skip


def test_samples_of_data_sets(database: db.Database, samples: Path) -> None:
    facts = truth(samples)
    files = {key: value for key, value in facts.items() if key.startswith(("sharegpt-alpaca/", "openai-messages/"))}
    assert len(files) >= 8
    for key, expected in files.items():
        report = alone(samples / key)
        assert sum(report.records.values()) == expected["records"]
        assert report.messages == (expected["messages"] or 2 * expected["records"]), key
        sides = Counter(expected["roles"])
        assert roles()["user"] == (sides["user"] or sides["human"] or expected["records"])
        if "usage" in expected:
            given, _, written, _, _ = tokens_of(samples / key)
            assert (given, written) == (
                expected["usage"]["promptTokenCount"],
                expected["usage"]["candidatesTokenCount"],
            )


def test_samples_of_traces(database: db.Database, samples: Path) -> None:
    files = {key: value for key, value in truth(samples).items() if key.startswith("otel-")}
    assert len(files) >= 2
    for key, expected in files.items():
        alone(samples / key)
        given, _, written, _, cost = tokens_of(samples / key)
        assert (given, written) == (expected["usage"]["input"], expected["usage"]["output"])
        assert cost == round(expected["cost"] * 1e9)
        twin = json.loads((samples / key.replace(".trace.", ".chatml.")).read_text())
        said = [
            one
            for found in twin.values()
            for side in ("input", "output")
            for one in found.get(side, {}).get("data", [])
        ]
        texts = {one["content"] for one in said if isinstance(one.get("content"), str) and one["content"]}
        assert texts, "Langfuse's own reading of the trace has texts"
        ours = [
            row[0] for row in database.execute_sql("SELECT content || coalesce(tool_text, '') FROM messages").fetchall()
        ]
        assert all(any(text in content for content in ours) for text in texts)
    for file in sorted((samples / "otel-openinference-langfuse/openinference").glob("*.json")):
        report = alone(file)
        tool_only = "tool_execution" in file.name
        assert report.messages == (0 if tool_only else 4), file
        if not tool_only:
            assert tokens_of(file)[:3:2] == [97, 52]
            assert roles() == Counter(user=1, assistant=2, tool=1)


def test_samples_of_other_tools(database: db.Database, samples: Path) -> None:
    aider = samples / "others/aider/chat-history.excerpt-lines-94-1679.md"
    expected = truth(samples)["others/aider/chat-history.excerpt-lines-94-1679.md"]
    report = alone(aider)
    assert report.sessions == expected["sessions"]
    sides = expected["messages_by_aiders_own_splitter"]
    assert roles() == Counter(user=sides["user"], assistant=sides["assistant"], event=sides["tool"])
    alone(samples / "others/opencode-storage")
    assert roles() == Counter(user=4, assistant=4)
    assert tokens_of(aider) == [120, 0, 16, 0, 1_100_000]
    for file in sorted((samples / "others/vscode-copilot-chatSessions").glob("*.json")):
        requests = json.loads(file.read_text())["requests"]
        alone(file)
        assert roles() == Counter(user=len(requests), assistant=len(requests))
        assert tokens_of(file)[0] == sum(one["result"]["promptTokens"] for one in requests)
        assert tokens_of(file)[2] == sum(one["result"]["outputTokens"] for one in requests)


def test_all_samples_in_any_order_are_the_same_archive(template: Path, tmp_path: Path, samples: Path) -> None:
    files = [samples / key for key in truth(samples) if "simple-invalid" not in key]
    sums: list[Any] = []
    for order in (files, files[::-1], random.Random(3).sample(files, len(files))):
        path = tmp_path / f"{len(sums)}.db"
        path.write_bytes(template.read_bytes())
        db.connect(path)
        transfer.run("auto", order)
        again = transfer.run("auto", order)
        assert again.totals()["imported"] == again.totals()["merged"] == 0
        sums.append((analytics.summary(), sorted(roles().items())))
        assert maintenance.check().findings == []
        db.database.close()
    assert sums[0] == sums[1] == sums[2]


def count_replies(path: Path, replies: dict[tuple[str, str], dict[str, int]]) -> None:
    """Keep the last usage of each reply of Claude Code; a reply of several files (of one session, or alike) once."""
    text = path.read_text()
    lines = json.loads(text)["loglines"] if path.suffix == ".json" else []
    found: dict[str, tuple[str, str, dict[str, int]]] = {}
    for number, line in enumerate(lines or text.splitlines()):
        try:
            value = line if isinstance(line, dict) else json.loads(line)
        except ValueError:
            continue
        message: Any = value.get("message") if isinstance(value, dict) else None
        usage = message.get("usage") if isinstance(message, dict) else None
        if usage and value.get("type") in ("assistant", None) and message.get("model") != "<synthetic>":
            key = message.get("id") or f"{path}:{number}"
            session, said, last = found.get(key, (value.get("sessionId", ""), "", usage))
            newer = usage["output_tokens"] >= last["output_tokens"]
            found[key] = session, said + json.dumps(message.get("content")), usage if newer else last
    for key, (session, said, usage) in found.items():
        known = (key, said) in replies or (key, session) in replies
        replies[(key, said)] = replies[(key, session)] = {} if known else usage


def test_the_summary_of_all_samples_is_the_deduplicated_truth(database: db.Database, samples: Path) -> None:
    facts = truth(samples)
    transfer.run("auto", [samples / key for key in facts if "simple-invalid" not in key])
    given = written = 0
    replies: dict[tuple[str, str], dict[str, int]] = {}
    for key, expected in facts.items():
        if key.startswith("claude-code/"):
            count_replies(samples / key, replies)
        elif key.startswith("codex/") and expected["final_total"] and not key.endswith("/parent.jsonl"):  # in its child
            given += expected["final_total"]["input_tokens"]
            written += expected["final_total"]["output_tokens"]
        elif key.startswith("gemini-cli/"):
            tokens = Counter(expected["tokens"])
            given, written = given + tokens["input"] + tokens["tool"], written + tokens["output"] + tokens["thoughts"]
        elif key.startswith("otel-"):
            given, written = given + expected["usage"]["input"], written + expected["usage"]["output"]
        elif "gemini_batch" in key:
            given, written = (
                given + expected["usage"]["promptTokenCount"],
                written + expected["usage"]["candidatesTokenCount"],
            )
    given += 1_420 + 1_420 + 2_840 + 980 + 1_620  # of Codex versions before cumulative counts, which TRUTH leaves out
    written += 910 + 910 + 1_520 + 640 + 240
    counted = {id(usage): usage for usage in replies.values()}.values()  # each reply is there under two names
    kept = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    given += sum(usage.get(name, 0) for usage in counted for name in kept)
    written += sum(usage.get("output_tokens", 0) for usage in counted)
    summary = analytics.summary()
    assert (summary.input_tokens, summary.output_tokens) == (given, written)


@pytest.mark.parametrize("folder", ["claude-code", "openai-messages/openai-cookbook", "."])
def test_a_whole_folder_twice_stores_nothing_twice(database: db.Database, samples: Path, folder: str) -> None:
    first = transfer.run("auto", [samples / folder])
    stored = database.execute_sql("SELECT count(*) FROM messages").fetchone()
    second = transfer.run("auto", [samples / folder])
    assert database.execute_sql("SELECT count(*) FROM messages").fetchone() == stored
    assert first.totals()["messages"] == second.totals()["messages"]
    assert second.totals()["imported"] == second.totals()["merged"] == 0
    assert maintenance.check().findings == []


def every_file(samples: Path) -> list[Path]:
    return [samples / key for key in truth(samples)]


@pytest.mark.parametrize("name", importers.names())
def test_every_importer_on_every_sample_of_the_others(database: db.Database, samples: Path, name: str) -> None:
    importer = importers.get(name)
    for file in every_file(samples):
        if name == "llm":  # a database: no other file is one
            assert not importer.matches(Source(file).head())
            continue
        ends = [item for item in importer.read(Source(file)) if not isinstance(item, (MessageRecord, SessionRecord))]
        assert all(isinstance(item.record, InputRecord) for item in ends)


def wrong_somewhere(value: Any, rng: random.Random) -> Any:
    """Return a copy of a value with something odd in one place."""
    if isinstance(value, (dict, list)) and value and rng.random() < 0.9:
        changed = value.copy()
        key = rng.choice(list(changed) if isinstance(changed, dict) else range(len(changed)))
        changed[key] = wrong_somewhere(changed[key], rng)
        return changed
    return rng.choice(specimens.ODD)


def mangled(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """Yield a sample with lines dropped, cut, doubled, shuffled, with wrong types, and with noise in it."""
    lines = data.splitlines(keepends=True)
    yield b"".join(line for line in lines if rng.random() < 0.8)
    yield data[: rng.randrange(len(data))]
    yield b"".join(line for line in lines for _ in range(rng.choice((1, 1, 2))))
    yield b"".join(rng.sample(lines, len(lines)))
    place = rng.randrange(len(data))
    yield data[:place] + rng.randbytes(20) + data[place + 20 :]
    with contextlib.suppress(ValueError):
        yield json.dumps(wrong_somewhere(json.loads(data), rng)).encode()
        return
    with contextlib.suppress(ValueError):
        yield b"".join(
            json.dumps(wrong_somewhere(json.loads(line), rng)).encode() + b"\n" for line in lines if line.strip()
        )


def test_mangled_samples_are_read_as_far_as_they_go(database: db.Database, samples: Path, tmp_path: Path) -> None:
    rng = random.Random(11)
    for file in every_file(samples):
        importer = importers.detect(Source(file))
        for number, data in enumerate(one for _ in range(FUZZ) for one in mangled(file.read_bytes(), rng)):
            changed = tmp_path / f"{number}{file.suffix}"
            changed.write_bytes(data)
            for format_ in ("auto", importer.NAME if importer else "auto"):
                try:
                    for _ in range(2):
                        report = transfer.run(format_, [changed])
                    assert report.totals()["imported"] == 0, "the second time nothing is new"
                except (errors.Unrecognised, errors.InvalidInput) as error:
                    assert "\n" not in str(error)
            changed.unlink()
    assert maintenance.check().findings == []
    for row in sessions.find(limit=None).rows:
        for message in sessions.nodes(row["uuid"]):
            sessions.blocks(message)
