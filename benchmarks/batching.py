"""Batches: 2,000 items 64 at a time beside a bare asyncio loop of the same SDK; a large job planned and listed.

python -m benchmarks.batching URL DATABASE ITEMS AT_ONCE    runs a batch and prints its seconds
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.importing import fresh
from benchmarks.timing import Measured, report, timed
from llmsess import batches
from llmsess.db import connect, database

ITEMS, AT_ONCE, ROUNDS = 2_000, 64, 3
MANY = 100_000
LEAST = 0.8  # of the bare loop's rate
BARE = """
import asyncio, sys, time, openai
async def main(url, items, at_once):
    client, slots = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0), asyncio.Semaphore(at_once)
    async def one(i):
        async with slots:
            said = [{"role": "user", "content": f"why is the sky blue, number {i}?"}]
            await client.chat.completions.create(model="m", messages=said)
    began = time.monotonic()
    await asyncio.gather(*(one(i) for i in range(items)))
    print(time.monotonic() - began)
asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""


@contextmanager
def server() -> Iterator[str]:
    """Run the server as a process of its own and yield its address."""
    command = [sys.executable, "-m", "benchmarks.answering"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
        finally:
            process.terminate()


def run(url: str, path: str, items: int, at_once: int) -> None:
    """Plan and run a batch and print the seconds of the run."""
    os.environ |= {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "none"}
    connect(path)
    prompts = (f"why is the sky blue, number {i}?" for i in range(items))
    job = batches.create(f"bench {time.time()}", prompts, model="openai/m", concurrency=at_once)
    import openai  # noqa: F401  both begin with the SDK loaded

    began = time.monotonic()
    report = batches.run(job)
    assert report.status == "done", report
    print(time.monotonic() - began)
    database.close()


def rate(folder: Path) -> bool:
    """A batch beside a loop that stores nothing, each a process of its own, in turn."""
    path, times = fresh(folder, "batch.db"), ([], [])  # type: tuple[Path, tuple[list[float], list[float]]]
    with server() as url:
        ours = [sys.executable, "-m", "benchmarks.batching", url, str(path), str(ITEMS), str(AT_ONCE)]
        theirs = [sys.executable, "-c", BARE, url, str(ITEMS), str(AT_ONCE)]
        for _ in range(ROUNDS):
            for which, command in enumerate((ours, theirs)):
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                times[which].append(float(done.stdout))
    measured = Measured(*(statistics.median(each) for each in times))
    met = report(f"{ITEMS:,} items, {AT_ONCE} at a time / a bare asyncio loop", measured, 1 / LEAST, "ms", ITEMS)
    print(f"     (milliseconds an item; {1 / measured.ratio:.2f} of the loop's rate)")
    return met


def planning(folder: Path) -> bool:
    """100,000 items planned from a file, and the first page of them."""
    path = folder / "prompts.txt"
    path.write_text("\n".join(f"why is the sky blue, number {i}?" for i in range(MANY)))
    connect(fresh(folder, "plan.db"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    took = timed(lambda: batches.create("many", path, model="echo/echo"))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    met = report(f"{MANY:,} items planned / 10 s", Measured(took, 10.0), 1.0, "s")
    print(f"     (memory grew by {grown:.0f} MB)")
    batches.create("few", ["one", "two"], model="echo/echo")
    pages = [
        statistics.median(timed(lambda name=name: batches.items(name, limit=50)) for _ in range(20))  # type: ignore[misc]
        for name in ("many", "few")
    ]
    lists = statistics.median(timed(lambda: batches.find()) for _ in range(20))
    report("first page of 100,000 items / of 2", Measured(*pages), float("inf"))
    report("the list of jobs / 10 ms", Measured(lists, 0.01), 1.0)
    database.close()
    return met


def bench_batch(folder: Path, size: int) -> bool:
    """Batches: their rate, and how a large one is planned and listed."""
    return all([rate(folder), planning(folder)])


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
