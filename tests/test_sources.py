"""Where bytes come from: files, archives, large and damaged documents, the places of tools; what is refused and why."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import resource
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from llmsess import db, errors, finding, importers, transfer
from llmsess.importers import reading, source, streaming
from llmsess.importers.source import Source
from tests import specimens
from tests.conftest import Command


def read(path: Path, *keys: str) -> list[tuple[int, Any, str | None]]:
    return [(record.line, value, problem) for record, value, problem in reading.records(Source(path), *keys)]


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": 1}\n{"a": 2}\n', b'[{"a": 1}, {"a": 2}]', b'\xef\xbb\xbf[\n  {"a": 1},\n  {"a": 2}\n]\n', b'{"k": [{"a": 1}, {"a": 2}]}',
        b'{\n "x": {"y": [0]},\n "k": [\n  {"a": 1},\n  {"a": 2}\n ]\n}', b'{"a": 1}\r\n\r\n{"a": 2}', b'\n\n  [{"a": 1},\n{"a": 2}]',
    ],
)  # fmt: skip
def test_a_file_is_lines_an_array_or_a_document(tmp_path: Path, data: bytes) -> None:
    for packed in (data, gzip.compress(data)):
        (tmp_path / "x").write_bytes(packed)
        assert [(value, problem) for _, value, problem in read(tmp_path / "x", "k")] == [
            ({"a": 1}, None),
            ({"a": 2}, None),
        ]


def test_what_is_damaged_is_read_as_far_as_it_is_whole(tmp_path: Path) -> None:
    def problems(data: bytes) -> list[Any]:
        (tmp_path / "x").write_bytes(data)
        return [value if problem is None else problem for _, value, problem in read(tmp_path / "x", "k")]

    assert problems(b'[{"a": 1}, {"a": 2') == [
        {"a": 1},
        "no JSON: expecting ',' delimiter (character 12); nothing after it can be read",
    ]
    assert problems(b'[{"a": 1}, x]') == [
        {"a": 1},
        "no JSON: expecting value (character 12); nothing after it can be read",
    ]
    assert problems(b'[{"a": 1} {"a": 2}]') == [
        {"a": 1},
        'no JSON: "," was expected (character 11); nothing after it can be read',
    ]
    assert problems(b'{"a": 1}\n{"a"\n{"a": 3}\n') == [
        {"a": 1},
        "no JSON: expecting ':' delimiter (column 5)",
        {"a": 3},
    ]
    assert problems(b'[{"a": "\xff\xfe"}]') == [{"a": "\ufffd\ufffd"}]
    assert problems(b"[" + b"[" * 100_000) == ["no JSON: nested too deeply"]
    deep, long = b"[" * 100_000 + b'"]}{["' + b"]" * 100_000, b'{"n": ' + b"9" * 5_000 + b"}"
    found = problems(b'[{"a": 1}, ' + deep + b", " + long + b', {"a": 2}]')
    assert found[0] == {"a": 1} and found[3] == {"a": 2}
    assert found[1] == "no JSON: nested too deeply" and "4300 digits" in found[2]
    assert problems(b'[{"a": 1}]\n[{"a": 2}]')[1].startswith("no JSON: more follows the document")
    assert problems(b'[1, 2]\n{"a": 1}\n{"a": 2}') == [[1, 2], {"a": 1}, {"a": 2}]
    assert problems(b'[{"a": 1}, ' + b'{"a":' * 3_000 + b"1" + b"}" * 3_000 + b"]")[0] == {"a": 1}
    assert problems(b"[1e400, NaN, -0.0, 12345678901234567890123]")[3] == 12345678901234567890123


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12,
)  # fmt: skip


@given(st.lists(VALUES, max_size=8), st.integers(1, 40), st.booleans())
def test_streaming_gives_what_json_gives(values: list[Any], block: int, spaced: bool) -> None:
    text = json.dumps(values, indent=2 if spaced else None, ensure_ascii=False).encode("utf-8", "surrogatepass")

    class Dripping:
        def __init__(self) -> None:
            self.place = 0

        def read(self, size: int) -> bytes:
            self.place += block
            return text[self.place - block : self.place]

    found = list(streaming.elements(Dripping(), None))  # type: ignore[arg-type]
    assert [value for _, value, _ in found] == json.loads(text.decode(errors="replace"))
    assert [json.loads(piece) for piece, _, _ in found] == [value for _, value, _ in found]


@pytest.mark.parametrize("layout", ["array", "one line", "under a key"])
def test_large_documents_need_little_memory(tmp_path: Path, layout: str) -> None:
    element = json.dumps({"messages": [{"role": "user", "content": "x" * 900}]})
    opening, closing = {
        "array": ("[\n", "\n]"),
        "one line": ("[", "]"),
        "under a key": ('{"version": 1, "conversations": [', "]}"),
    }[layout]
    between = ",\n" if layout == "array" else ", "
    with (tmp_path / "large.json").open("w") as file:
        file.write(opening)
        for i in range(80):
            file.write(between.join([element] * 1_000) + (between if i < 79 else ""))
        file.write(closing)
    script = (
        "import resource, sys; from pathlib import Path; from llmsess.importers import reading; from llmsess.importers.source import Source\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "count = sum(problem is None for _, _, problem in reading.records(Source(Path(sys.argv[1])), 'conversations'))\n"
        "print(count, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "large.json")], capture_output=True, text=True, check=True
    )
    count, grown_mb = map(int, done.stdout.split())
    assert count == 80_000
    assert grown_mb < 60, "80 MB are read in a few blocks"


def test_a_line_longer_than_may_be_is_one_bad_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_LINE_BYTES", 1_000)
    (tmp_path / "x").write_bytes(b'{"a": 1}\n{"a": "' + b"x" * 5_000 + b'"}\n{"a": 3}\n')
    assert read(tmp_path / "x") == [
        (1, {"a": 1}, None),
        (2, None, "the line is longer than 256 MiB"),
        (3, {"a": 3}, None),
    ]


def test_a_gigabyte_on_one_line_is_one_bad_record(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "x.gz", "wb", compresslevel=1) as file:
        file.write(b'{"messages": [{"role": "user", "content": "hi"}]}\n{"a": "')
        for _ in range(1_000):
            file.write(b"x" * 1_000_000)
        file.write(b'"}\n{"messages": [{"role": "user", "content": "ho"}]}\n')
    script = (
        "import resource, sys; from llmsess import db, transfer; db.connect(sys.argv[2]); "
        "report = transfer.run('auto', [sys.argv[1]]); print(dict(report.sources[0].records), report.sources[0].problems, "
        "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, sep='|')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "x.gz"), str(tmp_path / "x.db")],
        capture_output=True,
        text=True,
        check=True,
    )
    records, problems, peak_mb = done.stdout.split("|")
    assert "'imported': 2" in records and "'bad': 1" in records and "(2, 'the line is longer" in problems
    assert int(peak_mb) < 900, "a line is read up to 256 MiB"


# Archives


def archive(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, data in members.items():
            zipped.writestr(name.replace("__", "/").replace("_dot_", "."), data)
    return path


GOOD = json.dumps(specimens.chat("hi", "hello")).encode()


def test_an_archive_is_read_as_a_folder(database: db.Database, tmp_path: Path) -> None:
    made = archive(
        tmp_path / "a.zip",
        one_dot_jsonl=GOOD,
        inner__two_dot_json=GOOD.replace(b"hi", b"ho"),
        pictures_dot_png=b"png",
        x_dot_json=b"{}",
    )
    report = transfer.run("auto", [made])
    assert [item.path for item in report.sources] == [f"{made}/one.jsonl", f"{made}/inner/two.json"]
    assert report.skipped == [f"{made}/x.json"]
    assert transfer.run("auto", [tmp_path]).totals()["duplicate"] == 2
    with pytest.raises(errors.Unrecognised, match=r"no file of a known format in it; found: .*x\.json"):
        transfer.run("auto", [archive(tmp_path / "b.zip", x_dot_json=b"{}")])


def test_names_of_an_archive_lead_nowhere(database: db.Database, tmp_path: Path) -> None:
    made = tmp_path / "evil.zip"
    with zipfile.ZipFile(made, "w") as zipped:
        for name in ("../../escape.jsonl", "/etc/absolute.jsonl", "..\\windows.jsonl", "a/../../b.jsonl"):
            zipped.writestr(name, GOOD)
    before = sorted(path for path in tmp_path.rglob("*"))
    report = transfer.run("auto", [made])
    assert report.totals()["sources"] == 4 and not report.failed
    assert sorted(path for path in tmp_path.rglob("*") if not path.name.startswith("test.db")) == [
        p for p in before if not p.name.startswith("test.db")
    ]
    assert not (tmp_path.parent / "escape.jsonl").exists()


def test_archives_that_are_bombs_damaged_or_locked(
    database: db.Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "SUSPICIOUS_BYTES", 1_000_000)
    bomb = archive(tmp_path / "bomb.zip", bomb_dot_jsonl=b"0" * 3_000_000, good_dot_jsonl=GOOD)
    report = transfer.run("auto", [bomb])
    assert report.failed and report.totals()["imported"] == 1
    assert "would expand from" in report.sources[0].problems[0][1]
    cut = archive(tmp_path / "cut.zip", a_dot_jsonl=b"".join(GOOD + b"\n" for _ in range(500)))
    data = cut.read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    with pytest.raises(errors.Unrecognised, match="the archive is damaged"):
        transfer.run("auto", [cut])
    broken = archive(tmp_path / "broken.zip", a_dot_jsonl=os.urandom(4_000).hex().encode())
    changed = bytearray(broken.read_bytes())
    changed[60:200] = b"\xff" * 140
    broken.write_bytes(changed)
    report_or_error: str
    try:
        report_or_error = str(transfer.run("auto", [broken]).sources[0].problems)
    except errors.Unrecognised as error:
        report_or_error = str(error)
    assert "broken.zip" in report_or_error or "damaged" in report_or_error
    locked = bytearray(archive(tmp_path / "locked.zip", a_dot_jsonl=GOOD).read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.index(mark) + place] |= 1
    (tmp_path / "locked.zip").write_bytes(locked)
    report = transfer.run("auto", [tmp_path / "locked.zip"])
    assert report.failed and "encrypted" in report.sources[0].problems[0][1]


# Places


def test_the_usual_places_are_named_before_they_are_read(process: Command, tmp_path: Path) -> None:
    folder = tmp_path / ".claude" / "projects" / "-work"
    folder.mkdir(parents=True)
    specimens.write("claude-code", folder / f"{specimens.SESSION}.jsonl")
    (tmp_path / ".codex" / "sessions").mkdir(parents=True)
    specimens.write("codex", tmp_path / ".codex" / "sessions" / "rollout-x.jsonl")
    said = process("import", "auto", "--dry-run")
    assert (said.status, said.err) == (0, "")
    assert [line.partition(":")[0] for line in said.out.splitlines()] == ["claude-code", "codex"]
    assert json.loads(process("import", "auto", "--dry-run", "--json").out)[0]["files"] == 1
    assert process("list", "--json").out.strip() == "[]"
    read_it = process("import", "auto")
    assert read_it.status == 0 and "claude-code: " in read_it.err and "2 files" in read_it.out
    assert "1 file, 1 session" in process("import", "codex").out
    again = process("import", "auto", "--json")
    assert again.status == 0 and json.loads(again.out)["totals"]["imported"] == 0
    nothing = process("import", "pi")
    assert (nothing.status, nothing.out) == (1, "") and "import auto PATH" in nothing.err


def test_a_place_that_is_named_twice_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aider.chat.history.md").write_text(specimens.AIDER)
    monkeypatch.chdir(tmp_path)
    assert [place.format for place in finding.places()] == ["aider"]


# What was found instead


def test_nothing_recognised_says_what_is_there(process: Command, tmp_path: Path) -> None:
    import sqlite3

    (tmp_path / "a.json").write_text('{"alpha": 1, "beta": 2}')
    (tmp_path / "b.txt").write_text("Dear diary,\ntoday")
    (tmp_path / "c.bin").write_bytes(b"")
    with contextlib.closing(sqlite3.connect(tmp_path / "d.db")) as connection:
        connection.execute("CREATE TABLE birds (id)")
    for name, words in {
        "a.json": "alpha, beta",
        "b.txt": "Dear diary, today",
        "c.bin": "nothing",
        "d.db": "birds",
    }.items():
        ran = process("import", "auto", str(tmp_path / name))
        assert (ran.status, ran.out) == (1, ""), ran
        assert words in ran.err and ran.err.count("\n") == 1


def test_unknown_blocks_are_kept_told_and_give_status_6(process: Command, tmp_path: Path) -> None:
    blocks = [{"type": "text", "text": "hi"}, {"type": "hologram", "beams": 3}]
    (tmp_path / "x.jsonl").write_text(json.dumps({"messages": [{"role": "user", "content": blocks}]}) + "\n")
    first = process("import", "auto", str(tmp_path / "x.jsonl"))
    assert first.status == 6 and 'line 1: unknown block "hologram": kept as it is' in first.err
    assert json.loads(process("show", "@last", "--json").out)["messages"][0]["parts"] == blocks
    assert process("import", "auto", str(tmp_path / "x.jsonl")).status == 0


def test_a_head_is_not_read_to_the_end(tmp_path: Path) -> None:
    with (tmp_path / "x.json").open("wb") as file:
        file.write(b'{"uuid": "a", "chat_messages": [')
        file.seek(300_000_000)
        file.write(b"]}")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert importers.detect(Source(tmp_path / "x.json")) is importers.get("claude-ai")
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024 < 100


def test_a_database_with_a_log_in_a_folder_that_is_not_ours_to_write(database: db.Database, tmp_path: Path) -> None:
    import sqlite3

    folder = tmp_path / "theirs"
    folder.mkdir()
    specimens.write("llm", folder / "logs.db")
    writer = sqlite3.connect(folder / "logs.db")
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("INSERT INTO responses (id, model, prompt, response) VALUES ('r9', 'm', 'only in the log', 'yes')")
    writer.commit()
    before = {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")}
    report = transfer.run("auto", [folder])
    assert report.totals()["imported"] == 4
    assert {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")} == before
    writer.close()


def test_one_bad_database_does_not_stop_a_folder(database: db.Database, tmp_path: Path) -> None:
    (tmp_path / "opencode.db").write_bytes(b"SQLite format 3\0" + b"junk" * 500)
    (tmp_path / "GOOD.NDJSON").write_bytes(GOOD)
    (tmp_path / "cut.zip").write_bytes(
        archive(tmp_path / "whole.zip", a_dot_jsonl=(GOOD + b"\n") * 50).read_bytes()[:-60]
    )
    report = transfer.run("auto", [tmp_path])
    assert report.failed and report.totals()["imported"] + report.totals()["duplicate"] >= 2
    assert sorted(Path(item.path).name for item in report.sources if item.records["bad"]) == ["cut.zip", "opencode.db"]


def test_several_formats_that_fit_are_named(database: db.Database, tmp_path: Path) -> None:
    both = [specimens.RECORDS["sharegpt"][0], specimens.RECORDS["alpaca"][0]]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(one) + "\n" for one in both))
    with pytest.raises(errors.Unrecognised, match="may be of several formats: sharegpt, alpaca"):
        transfer.run("auto", [tmp_path / "x.jsonl"])


def test_what_comes_after_many_other_lines_is_recognised(database: db.Database, tmp_path: Path) -> None:
    progress = [
        {"type": "progress", "uuid": f"p{i}", "parentUuid": None, "sessionId": specimens.SESSION} for i in range(60)
    ]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(one) + "\n" for one in [*progress, *specimens.talk()]))
    assert transfer.run("auto", [tmp_path / "x.jsonl"]).totals()["messages"] == 4


def test_a_dry_run_over_files_that_repeat_each_other_tells_the_truth(database: db.Database, tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        specimens.write("sharegpt", tmp_path / name)
    dry, did = transfer.run("auto", [tmp_path], dry_run=True).totals(), transfer.run("auto", [tmp_path]).totals()
    assert dry == did and did["duplicate"] == 1


def test_a_damaged_member_gives_what_comes_before_its_damage(database: db.Database, tmp_path: Path) -> None:
    many = json.dumps([specimens.chat(f"question {i}", os.urandom(600).hex()) for i in range(800)]).encode()
    made = bytearray(archive(tmp_path / "a.zip", a_dot_json=many).read_bytes())
    place = int(len(made) * 0.9)
    made[place : place + 20] = b"\xff" * 20
    (tmp_path / "a.zip").write_bytes(made)
    report = transfer.run("auto", [tmp_path / "a.zip"])
    assert report.failed and report.totals()["imported"] > 600


def test_elements_that_are_too_large_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "MAX_LINE_BYTES", 3_000_000)
    (tmp_path / "x").write_bytes(b'[{"a": 1}, {"b": "' + b"]x" * 2_500_000 + b'"}, {"a": 2}]')
    found = read(tmp_path / "x")
    assert [value for _, value, _ in found] == [{"a": 1}, None, {"a": 2}]
    assert found[1][2] == "an element is larger than 256 MiB"
