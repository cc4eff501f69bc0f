"""Bulk import beside json.loads and executemany, of three formats; and a gigabyte in and out, for its peak memory."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import data, raw
from benchmarks.timing import Measured, report
from llmsess import exporting, transfer
from llmsess.db import connect, database

GIGABYTE = 1_000_000_000
MAX_RSS_MB = 200
PEAK = "import resource, sys; from llmsess.cli import run; run(sys.argv[1:]); " \
       "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"  # fmt: skip
Said = Iterator[tuple[list[raw.Said], list[bytes]]]  # conversations with their lines


def fresh(folder: Path, name: str) -> Path:
    """Return the path of a database that is not there yet."""
    for leftover in folder.glob(f"{name}*"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    return folder / name


def write_claude_code(path: Path, sessions: int) -> Path:
    """Write conversations as one file of Claude Code's lines: a prompt, and a reply of two lines with its usage."""
    if path.exists():
        return path
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as file:
        for number, messages in enumerate(data.conversations(sessions)):
            session, parent = f"{number:08x}-0000-4000-8000-000000000000", None
            for turn, message in enumerate(messages):
                for part in range(1 + turn % 2):
                    uuid = f"{number:08x}-{turn:04x}-4{part:03x}-8000-000000000000"
                    line: dict[str, Any] = {"parentUuid": parent, "isSidechain": False, "userType": "external", "cwd": "/work/app",
                            "sessionId": session, "version": "2.0.0", "gitBranch": "main", "type": message["role"],
                            "uuid": uuid, "timestamp": "2026-01-31T13:00:00.000Z"}  # fmt: skip
                    if turn % 2:
                        block = (
                            {"type": "text", "text": message["content"]}
                            if part
                            else {"type": "thinking", "thinking": "Hm."}
                        )
                        usage = {
                            "input_tokens": 3,
                            "cache_creation_input_tokens": 100,
                            "cache_read_input_tokens": 900,
                            "output_tokens": 20 + part,
                        }
                        line["message"] = {"id": f"msg_{number}_{turn}", "type": "message", "role": "assistant", "model": "claude-sonnet-4-20250514",
                                           "content": [block], "stop_reason": None, "usage": usage}  # fmt: skip
                        line["requestId"] = f"req_{number}_{turn}"
                    else:
                        line["message"] = {"role": "user", "content": message["content"]}
                    file.write(json.dumps(line) + "\n")
                    parent = uuid
    partial.rename(path)
    return path


def write_own(folder: Path, jsonl: Path, path: Path) -> Path:
    """Write conversations in llmsess' own format: imported and exported once."""
    if not path.exists():
        connect(fresh(folder, "own.db"))
        transfer.run("openai-chat", [jsonl], keep_raw=False)
        with path.open("w", encoding="utf-8") as out:
            exporting.run("llmsess", out)
        database.close()
    return path


def of_openai(path: Path) -> Said:
    with path.open("rb") as file:
        for line in file:
            yield [(message["role"], message["content"], ()) for message in json.loads(line)["messages"]], [line]


def of_claude_code(path: Path) -> Said:
    """Yield the messages of each session with the columns that an import enters; the lines of a reply as one."""
    said: dict[str, raw.Said] = {}
    lines: list[bytes] = []
    current = None
    with path.open("rb") as file:
        for raw_line in file:
            line = json.loads(raw_line)
            if line["sessionId"] != current and said:
                yield list(said.values()), lines
                said, lines = {}, []
            current, message = line["sessionId"], line["message"]
            content, usage, key = message["content"], message.get("usage"), message.get("id") or line["uuid"]
            lines.append(raw_line)
            if usage is None:
                said[key] = "user", content, (key, *(None,) * 11, line["timestamp"], line["timestamp"])[:13]
            else:
                text, cached, written = (
                    str(content[-1].get("text", "")),
                    usage["cache_read_input_tokens"],
                    usage["cache_creation_input_tokens"],
                )
                total = usage["input_tokens"] + cached + written
                told = (
                    total,
                    cached,
                    written,
                    usage["output_tokens"],
                    json.dumps(usage),
                    1_000_000,
                    "catalog",
                    json.dumps(content),
                    "Hm.",
                    "{}",
                )
                said[key] = "assistant", text, (key, *told, line["timestamp"], line["timestamp"])
    yield list(said.values()), lines


def of_own(path: Path) -> Said:
    """Yield the messages of each session; the rows are kept nowhere."""
    said: list[raw.Said] = []
    with path.open("rb") as file:
        for line in file:
            row = json.loads(line)
            if row["type"] == "session" and said:
                yield said, []
                said = []
            elif row["type"] == "message":
                said.append((row["role"], row["content"], ()))
    yield said, []


def compare(folder: Path, format: str, path: Path, said: Callable[[Path], Said]) -> Measured:
    """Time an import and the same by hand, in turn."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(3):
        connect(fresh(folder, "ours.db"))
        began = time.perf_counter()
        transfer.run(format, [path])
        times[0].append(time.perf_counter() - began)
        theirs = fresh(folder, "theirs.db")
        connect(theirs)
        database.close()
        began = time.perf_counter()
        raw.import_by_hand(theirs, said(path))
        times[1].append(time.perf_counter() - began)
    return Measured(statistics.median(times[0]), statistics.median(times[1]))


def bench_import(folder: Path, size: int) -> bool:
    """Bulk import beside json.loads and executemany under the same triggers."""
    count = min(size, 10_000)
    jsonl = data.write_jsonl(folder / f"import-{count}.jsonl", count)
    lines = write_claude_code(folder / f"claude-{count}.jsonl", count)
    own = write_own(folder, jsonl, folder / f"own-{count}.jsonl")
    met = True
    for format, path, said in (
        ("openai-chat", jsonl, of_openai), ("claude-code", lines, of_claude_code), ("llmsess", own, of_own)
    ):  # fmt: skip
        measured = compare(folder, format, path, said)
        met &= report(f"import of {count * 10:,} messages, {format} / by hand", measured, 1 / 0.8, "s")
    log_s = claude_code_log(lines)
    if log_s is None:
        print("     claude-code-log is not installed: not compared")
    else:
        print(f"     claude-code-log's own parse of the same file: {log_s:.2f} s")
    return met


def claude_code_log(path: Path) -> float | None:
    """Return the seconds that claude-code-log takes to parse a transcript, None where it is not installed."""
    script = "import sys, time; from pathlib import Path; from claude_code_log.converter import load_transcript; " \
             "began = time.perf_counter(); load_transcript(Path(sys.argv[1])); print(time.perf_counter() - began)"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True)
    return float(done.stdout.split()[-1]) if done.returncode == 0 else None


def bench_size(folder: Path, size: int) -> bool:
    """The peak memory of importing and exporting a gigabyte (or ten kilobytes a session, where that is less)."""
    wanted = min(GIGABYTE, size * 10_000)
    sample = write_claude_code(folder / "claude-1000.jsonl", 1_000).stat().st_size / 1_000
    sessions = int(wanted / sample)
    lines = write_claude_code(folder / f"claude-{sessions}.jsonl", sessions)
    env = os.environ | {"LLMSESS_DB": str(fresh(folder, "size.db"))}
    met = True
    own = folder / "size.jsonl"
    for what, arguments in (
        ("import, claude-code", ["import", "claude-code", str(lines), "--no-raw"]),
        ("export, llmsess", ["export", "llmsess", "-o", str(own), "--yes"]),
        ("export, html", ["export", "html", "-o", str(folder / "size.html"), "--yes"]),
        ("import, llmsess", ["--db", str(fresh(folder, "size-own.db")), "import", "llmsess", str(own)]),
    ):
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", PEAK, *arguments], env=env, capture_output=True, text=True)
        took = time.perf_counter() - began
        peak = int(done.stdout.split()[-1])
        ok = peak <= MAX_RSS_MB
        met &= ok
        print(f"{'ok  ' if ok else 'MISS'} {what} of {lines.stat().st_size / 1e6:,.0f} MB: peak {peak} MB "
              f"(<= {MAX_RSS_MB}), {took:.0f} s", flush=True)  # fmt: skip
    return met
