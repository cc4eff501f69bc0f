"""`make bench`: the first rows of the speed table, each a ratio within one run; `make bench SIZE=1000` for a quick one.

    python -m benchmarks.run [--sessions N] [--folder .bench] [ROW ...]

Rows: start, turn, stream, import, size, search, list, snapshot,
batch. SIZE is the number of sessions, of 10 messages each (default 100,000).
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import batching, data, importing, marking, raw, streaming
from benchmarks.timing import Measured, in_turn, processes_in_turn, report, timed
from llmsess import chat, search, sessions
from llmsess.db import connect, database

LLM = "llm==0.36"
LANGGRAPH = ("langgraph", "langgraph-checkpoint-sqlite")
PROMPT = "why is the sky blue when the sun is white and the night is black " * 3
TURNS_PER_SESSION = 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, default=Path(".bench"))
    parser.add_argument("rows", nargs="*")
    options = parser.parse_args()
    options.folder.mkdir(exist_ok=True)
    print(f"{options.sessions * 10:,} messages; ratios are medians of turns about: llmsess / the other", flush=True)
    met = [bench(options.folder, options.sessions) for name, bench in ROWS.items() if name in (options.rows or ROWS)]
    return 0 if all(met) else 1


def peer(folder: Path, name: str = "llm", *packages: str) -> Path | None:
    """Return the Python of an environment with a peer, made on first use; None where it cannot be installed."""
    home = folder / name
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
        if subprocess.run([python, "-m", "pip", "install", "-q", *(packages or [LLM])]).returncode:
            shutil.rmtree(home)
            return None
    return python.absolute()


def bench_start(folder: Path, size: int) -> bool:
    """Processor time of whole processes."""
    db = data.big_database(folder, size)
    env = os.environ | {"LLMSESS_DB": str(db.absolute()), "PYTHONDONTWRITEBYTECODE": ""}
    command = [sys.executable, "-m", "llmsess"]
    imports = [sys.executable, "-c", "import click, peewee, playhouse.sqlite_ext"]
    met = True
    for arguments in (["--version"], ["session", "list"]):
        measured = processes_in_turn([*command, *arguments], imports, env)
        met &= report(f"llmsess {' '.join(arguments)} / importing its libraries", measured, 2.0)
    python = peer(folder)
    if python is None:
        print("     llm could not be installed: not compared")
        return met
    env |= {"LLM_USER_PATH": str(folder / "llm-home")}
    Path(env["LLM_USER_PATH"]).mkdir(exist_ok=True)
    subprocess.run(
        [python, Path(__file__).parent / "peer_llm.py", folder / "llm-home" / "logs.db", "40"],
        check=True,
        env=env,
        stdout=subprocess.DEVNULL,
    )
    logs = [str(python.parent / "llm"), "logs", "-n", "20"]
    measured = processes_in_turn([*command, "session", "list", "--limit", "20"], logs, env)
    return report("llmsess session list --limit 20 / llm logs -n 20", measured, 0.25) and met


def bench_turn(folder: Path, size: int) -> bool:
    """A stored turn: written ahead, settled, in the ledger and the index."""
    connect(importing.fresh(folder, "turn.db"))
    by_hand = raw.Turns(folder / "turn.db")
    state: dict[str, Any] = {"session": sessions.create("bench", model="echo/echo"), "turns": 0}

    def ours() -> None:
        state["turns"] += 1
        if state["turns"] % TURNS_PER_SESSION == 0:
            state["session"] = sessions.create("bench", model="echo/echo")
        chat.ask(state["session"], PROMPT, stream=False)

    def theirs() -> None:
        if state["turns"] % TURNS_PER_SESSION == 0:
            by_hand.begin_session()
        by_hand.turn(PROMPT)

    measured = in_turn(ours, theirs, rounds=400)
    alone_s = statistics.median(timed(ours) for _ in range(400))  # as llm's are: no other file is written meanwhile
    database.close()
    met = report("a stored turn / the same statements by hand", measured, 1.5)
    python = peer(folder)
    if python is None:
        print("     llm could not be installed: not compared")
        return met
    script = [str(python), str(Path(__file__).parent / "peer_llm.py"), str(importing.fresh(folder, "llm.db")), "400"]
    llm_s = float(subprocess.run(script, check=True, capture_output=True, text=True).stdout)
    return report("a stored turn / llm's log_to_db", Measured(alone_s, llm_s), 0.5) and met


def bench_search(folder: Path, size: int) -> bool:
    """Search, snippets included, beside the same SQL."""
    db = data.big_database(folder, size)
    connect(db)
    connection = raw.connect(db)
    met = True
    filters = {"": search.SearchFilter(), ", in a project": search.SearchFilter(project="project 3", roles=("user",))}
    words = {"a word in a third": data.COMMON, "a rare word": data.RARE, "two words": f"{data.COMMON} {data.RARE}"}
    for which, word in words.items():
        for how, filter in filters.items():
            statements = recorded(lambda word=word, filter=filter: search.find(word, filter))  # type: ignore[misc]

            def theirs(statements: list[tuple[str, object]] = statements) -> None:
                for sql, values in statements:
                    connection.execute(sql, values).fetchall()

            measured = in_turn(lambda word=word, filter=filter: search.find(word, filter), theirs, rounds=7)  # type: ignore[misc]
            met &= report(f"search for {which}{how} / the same SQL", measured, 1.15)
            if which == "a word in a third" and not how:
                met &= report("search for a word in a third / 100 ms", Measured(measured.ours_s, 0.1), 1.0)
    connection.close()
    database.close()
    return met


def recorded(call: Callable[[], object]) -> list[tuple[str, object]]:
    """Return the statements that a call runs, with their values."""
    seen: list[tuple[str, object]] = []
    hook = lambda event: seen.append((event.sql, event.params or ()))  # noqa: E731
    database.query_hooks.append(hook)
    call()
    database.query_hooks.remove(hook)
    return seen


def bench_list(folder: Path, size: int) -> bool:
    """The first page of a list beside the raw keyset query."""
    db = data.big_database(folder, size)
    connect(db)
    connection = raw.connect(db)
    met = True
    for how, filter, where in (
        ("all", sessions.SessionFilter(), ""),
        ("by project", sessions.SessionFilter(project="project 3"), "AND s.project_id = 4"),
        (
            "by model",
            sessions.SessionFilter(model="bench/model-3"),
            "AND s.model_id = (SELECT id FROM models WHERE model_name = 'model-3')",
        ),
    ):
        keyset = (
            "SELECT v.* FROM v_session_summary v JOIN (SELECT s.id FROM sessions s WHERE s.status NOT IN ('archived', 'deleted') "
            f"{where} ORDER BY s.last_activity_at DESC, s.id DESC LIMIT 50) p ON p.id = v.id"
        )
        measured = in_turn(
            lambda filter=filter: sessions.find(filter),  # type: ignore[misc]
            lambda keyset=keyset: connection.execute(keyset).fetchall(),  # type: ignore[misc]
            rounds=50,
        )
        met &= report(f"first page of a list, {how} / the keyset query", measured, 2.0)
    connection.close()
    database.close()
    return met


def bench_snapshot(folder: Path, size: int) -> bool:
    """Snapshots: their cost, the size of 300, the first screen of a long conversation."""
    python = peer(folder, "langgraph", *LANGGRAPH)
    return all([marking.cost(folder), marking.size(folder, python), marking.first_screen(folder)])


def bench_stream(folder: Path, size: int) -> bool:
    """A stream: how soon it is shown, and what keeping it costs."""
    importing.fresh(folder, "stream.db")
    return all([streaming.first_piece(folder), streaming.keeping(folder)])


ROWS: dict[str, Callable[[Path, int], bool]] = {
    "start": bench_start,
    "turn": bench_turn,
    "stream": bench_stream,
    "import": importing.bench_import,
    "size": importing.bench_size,
    "search": bench_search,
    "list": bench_list,
    "snapshot": bench_snapshot,
    "batch": batching.bench_batch,
}

if __name__ == "__main__":
    sys.exit(main())
