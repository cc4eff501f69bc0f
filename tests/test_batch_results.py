"""What a batch came to, written out and read back: CSV, JSON lines, OpenAI's two files, Anthropic's results."""

from __future__ import annotations

import csv
import io
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from llmsess import batches, db, maintenance, sessions
from llmsess.batches import resultlines
from llmsess.errors import InvalidInput
from tests.conftest import Command
from tests.server import Answer, ChatServer
from tests.test_batch_crashes import checked, ended, worker


def written(format: str, name: str = "job") -> tuple[str, str]:
    out, errors = io.StringIO(), io.StringIO()
    batches.export(name, format, out, errors)
    return out.getvalue(), errors.getvalue()


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def job(database: db.Database, server: ChatServer) -> None:
    """A job with an answer, a failure with a status, one without, an unknown item, and one that is to do."""
    server.answers["refuses"] = Answer("application/json", b'{"error": {"message": "no", "code": "bad"}}', 422)
    rows = [
        {"custom_id": "a", "prompt": "=1+1", "model": "openai/echo", "note": "x"},
        {"custom_id": "b", "prompt": "b", "model": "openai/refuses"},
        {"custom_id": "c", "prompt": "c", "model": "openai/drop"},
        {"custom_id": "d", "prompt": "d", "model": "openai/tools"},
    ]
    batches.create("job", rows, concurrency=1)
    batches.run("job")
    batches.add("job", [{"custom_id": "e", "prompt": "e", "model": "openai/echo"}])


def test_a_csv_has_the_input_and_what_became_of_it(job: None) -> None:
    out, errors = written("csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert errors == ""
    assert [row["custom_id"] for row in rows] == ["a", "b", "c", "d", "e"]
    assert [row["status"] for row in rows] == ["done", "failed", "unknown", "done", "todo"]
    assert (rows[0]["prompt"], rows[0]["content"], rows[0]["note"]) == ("'=1+1", "'=1+1", "x")
    assert (rows[0]["input_model"], rows[0]["model"]) == ("openai/echo", "openai/echo")
    assert rows[1]["error_kind"] == "bad_request"


def test_json_lines_have_every_item_in_the_order_of_the_input(job: None) -> None:
    found = lines(written("jsonl")[0])
    assert [line["key"] for line in found] == ["a", "b", "c", "d", "e"]
    assert found[0]["content"] == "=1+1"
    assert found[0]["input"]["note"] == "x"
    assert (found[0]["input_tokens"], found[0]["output_tokens"], found[0]["cost_usd"]) == (11, 7, None)


def test_openais_files_have_every_item_in_one_of_them(job: None) -> None:
    out, errors = (lines(text) for text in written("openai"))
    assert [line["custom_id"] for line in out] == ["a", "d"]
    assert [line["custom_id"] for line in errors] == ["b", "c", "e"]
    body = out[0]["response"]["body"]
    assert body["choices"] == [
        {"index": 0, "message": {"role": "assistant", "content": "=1+1"}, "finish_reason": "stop"}
    ]  # fmt: skip
    assert body["usage"] == {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    (call,) = out[1]["response"]["body"]["choices"][0]["message"]["tool_calls"]
    assert call["function"] == {"name": "weather", "arguments": '{"city":"Oslo"}'}
    assert (errors[0]["response"]["status_code"], errors[0]["error"]) == (422, None)
    assert errors[1]["error"]["code"] == "unknown"
    assert errors[2]["error"] == {"code": "todo", "message": "the item is todo"}


def test_what_was_written_is_read_back_the_same(job: None, tmp_path: Path) -> None:
    out, errors = written("openai")
    (tmp_path / "out.jsonl").write_text(out)
    (tmp_path / "errors.jsonl").write_text(errors)
    files = [str(tmp_path / "errors.jsonl"), str(tmp_path / "out.jsonl")]
    came = batches.import_results("back", files)
    assert (came.answered, came.failed, came.known, came.unmatched, came.bad) == (2, 1, 2, 0, 0)
    assert [item.status for item in batches.stream_items("back")] == ["failed", "unknown", "todo", "done", "done"]
    read = {item.key: item for item in batches.stream_items("back")}
    assert (read["a"].content, read["a"].input_tokens, read["a"].output_tokens) == ("=1+1", 11, 7)
    assert [block["name"] for block in sessions.blocks(sessions.path(read["d"].session or "")[-1]) or []] == ["weather"]
    assert read["b"].error_kind == "bad_request"
    again = batches.import_results("back", files)
    assert (again.answered, again.failed, again.known) == (0, 0, 5)
    assert maintenance.check().findings == []


def test_a_batch_takes_its_own_error_file_without_harm(job: None, tmp_path: Path) -> None:
    (tmp_path / "errors.jsonl").write_text(written("openai")[1])
    before = [(item.key, item.status, item.error_kind) for item in batches.stream_items("job")]
    came = batches.import_results("job", [str(tmp_path / "errors.jsonl")])
    assert (came.answered, came.failed, came.known) == (0, 0, 3)
    assert [(item.key, item.status, item.error_kind) for item in batches.stream_items("job")] == before


def test_an_answer_that_was_deleted_is_none(job: None) -> None:
    sessions.delete(batches.item("job", "a").session or "")
    done = batches.export("job", "openai", io.StringIO(), errors := io.StringIO())
    assert (done.answered, done.others) == (1, 4)
    assert lines(errors.getvalue())[0]["error"] == {"code": "deleted", "message": "the answer was deleted"}


def test_files_without_results_leave_no_batch(run: Command, tmp_path: Path) -> None:
    for text in ("[]", "", "rubbish\n"):
        (tmp_path / "file").write_text(text)
        assert run("batch", "import", "job", str(tmp_path / "file")).status == 2
    assert json.loads(run("batch", "list", "--json").out) == []


def test_a_result_without_a_model_has_none(database: db.Database, tmp_path: Path) -> None:
    body = {"choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}
    (tmp_path / "file").write_text(json.dumps({"custom_id": "aaaa", "response": {"status_code": 200, "body": body}}))
    batches.import_results("job", [str(tmp_path / "file")])
    item = batches.item("job", "aaaa")
    assert (item.status, item.content, item.model) == ("done", "hi", None)
    assert maintenance.check().findings == []


def test_a_heading_cannot_start_a_formula(database: db.Database) -> None:
    batches.create("job", [{"=cmd": "x", "prompt": "a"}], model="echo/echo")
    assert written("csv")[0].startswith("'=cmd,prompt,key")


def test_answers_and_errors_do_not_go_into_one_file(run: Command, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a")
    run("batch", "run", "job", str(tmp_path / "p.txt"), "-m", "echo/echo")
    file = str(tmp_path / "x.jsonl")
    assert run("batch", "export", "job", "--format", "openai", "-o", file, "--errors", file).status == 2


REQUESTS = [
    {"custom_id": f"r{i}", "method": "POST", "url": "/v1/chat/completions",
     "body": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": f"question {i}"}]}}
    for i in range(4)
]  # fmt: skip


def answer(key: str, text: str) -> dict[str, Any]:
    body = {"model": "gpt-4o-mini-2024", "usage": {"prompt_tokens": 1000, "completion_tokens": 1000},
            "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}  # fmt: skip
    return {"custom_id": key, "response": {"status_code": 200, "body": body}, "error": None}


def test_requests_and_results_make_sessions_with_both(database: db.Database, tmp_path: Path) -> None:
    results = [answer("r2", "two"), answer("r0", "zero"), {"custom_id": "r1", "response": None, "error": "odd"}]
    for name, rows in (("in", REQUESTS), ("out", results)):
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)))
    came = batches.import_results("job", [str(tmp_path / "out"), str(tmp_path / "in")])
    assert (came.requests, came.answered, came.failed) == (4, 2, 1)
    assert [(item.key, item.status) for item in batches.stream_items("job")] == [
        ("r0", "done"), ("r1", "failed"), ("r2", "done"), ("r3", "todo"),
    ]  # fmt: skip
    assert [said.content for said in sessions.path(batches.item("job", "r0").session or "")] == ["question 0", "zero"]
    state = batches.status("job")
    assert (state.calls, state.tokens, state.cost) == (0, 4000, 2 * 1000 * (150 + 600) // 2)
    failed = next(item for item in batches.stream_items("job", status="failed"))
    assert failed.error == "odd"


def test_anthropics_results_are_read(database: db.Database, tmp_path: Path) -> None:
    message = {"type": "message", "role": "assistant", "model": "claude-x", "content": [{"type": "text", "text": "hi"}],
               "stop_reason": "end_turn", "usage": {"input_tokens": 3, "output_tokens": 2}}  # fmt: skip
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": "bad"}}
    rows = [
        {"custom_id": "a", "result": {"type": "succeeded", "message": message}},
        {"custom_id": "b", "result": {"type": "errored", "error": error}},
        {"custom_id": "c", "result": {"type": "expired"}}, {"custom_id": "d", "result": {"type": "canceled"}},
    ]  # fmt: skip
    (tmp_path / "results").write_text("\n".join(map(json.dumps, rows)))
    batches.import_results("job", [str(tmp_path / "results")])
    assert [(item.key, item.status, item.error_kind) for item in batches.stream_items("job")] == [
        ("a", "done", None), ("b", "failed", "bad_request"), ("c", "failed", "expired"), ("d", "failed", "cancelled"),
    ]  # fmt: skip
    assert batches.item("job", "a").model == "anthropic/claude-x"


@pytest.mark.parametrize(
    "line",
    [
        {"custom_id": "a", "response": {"status_code": 200, "body": {"choices": []}}},
        {"custom_id": "a", "response": {"status_code": "x", "body": []}},
        {"custom_id": "a", "response": []},
        {"custom_id": "a", "result": {"type": "succeeded", "message": {"content": 7}}},
        {"custom_id": "a", "result": []},
        {"custom_id": "a", "error": {"code": 7, "message": ["x"]}},
        {"custom_id": ["a"], "response": None, "error": None},
    ],
)
def test_odd_results_are_failures_not_tracebacks(line: dict[str, Any]) -> None:
    found = resultlines.read(line)
    assert found.reply is None
    assert found.error


def test_files_of_something_else_say_so(run: Command, tmp_path: Path) -> None:
    (tmp_path / "odd.jsonl").write_text('{"custom_id": "a", "response": null, "error": "x"}\nrubbish\n')
    came = run("batch", "import", "job", str(tmp_path / "odd.jsonl"), "--json")
    assert came.status == 6
    assert json.loads(came.out)["bad"] == 1
    assert "line 2" in json.loads(came.out)["problems"][0]
    assert run("batch", "import", "job", str(tmp_path / "missing.jsonl")).status == 2


def test_a_kill_while_results_are_imported(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    file.write_text("\n".join(json.dumps(answer(f"r{i}", "x")) for i in range(500)))
    assert (
        ended(worker(path, "batch", "import", "job", str(file), crash="batch.importing:KILL:2"))[0] == -signal.SIGKILL
    )
    assert ended(worker(path, "batch", "import", "job", str(file)))[0] == 0
    assert checked(path).counts["done"] == 500


def test_an_unknown_format_is_refused(database: db.Database) -> None:
    batches.create("job", ["a"], model="echo/echo")
    with pytest.raises(InvalidInput, match='did you mean "jsonl"'):
        batches.export("job", "jsnl", io.StringIO())
