"""Other tools' real files give the counts that TRUTH.json has of them, and give them again the second time."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from llmsess import db, maintenance, transfer

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


@pytest.mark.parametrize("folder", ["claude-code", "openai-messages/openai-cookbook"])
def test_a_whole_folder_twice_stores_nothing_twice(database: db.Database, samples: Path, folder: str) -> None:
    first = transfer.run("auto", [samples / folder])
    stored = database.execute_sql("SELECT count(*) FROM messages").fetchone()
    second = transfer.run("auto", [samples / folder])
    assert database.execute_sql("SELECT count(*) FROM messages").fetchone() == stored
    assert first.totals()["messages"] == second.totals()["messages"]
    assert second.totals()["imported"] == second.totals()["merged"] == 0
    assert maintenance.check().findings == []
