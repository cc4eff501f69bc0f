"""Timing: two things in turn, many times, and the ratio of their medians, so that a noisy machine hurts both alike."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """Medians in seconds, and their ratio ours / theirs."""

    ours_s: float
    theirs_s: float

    @property
    def ratio(self) -> float:
        return self.ours_s / self.theirs_s


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes by the wall clock."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def in_turn(ours: Callable[[], object], theirs: Callable[[], object], rounds: int = 15) -> Measured:
    """Time both by the wall clock, in turn, after one warm-up each."""
    times: tuple[list[float], list[float]] = ([], [])
    for i in range(rounds + 1):
        for which, call in enumerate((ours, theirs)):
            took = timed(call)
            if i:
                times[which].append(took)
    return Measured(statistics.median(times[0]), statistics.median(times[1]))


def cpu_s(command: Sequence[str], env: dict[str, str]) -> float:
    """Return the user and system time of a whole process."""
    before = os.times()
    subprocess.run(
        command, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
    )
    after = os.times()
    return (after.children_user - before.children_user) + (after.children_system - before.children_system)


def processes_in_turn(ours: Sequence[str], theirs: Sequence[str], env: dict[str, str], rounds: int = 15) -> Measured:
    """Measure the processor time of two commands, in turn, after one warm-up each."""
    times: tuple[list[float], list[float]] = ([], [])
    for i in range(rounds + 1):
        for which, command in enumerate((ours, theirs)):
            spent = cpu_s(command, env)
            if i:
                times[which].append(spent)
    return Measured(statistics.median(times[0]), statistics.median(times[1]))


def report(what: str, measured: Measured, limit: float, unit: str = "ms", per: int = 1) -> bool:
    """Print one line, `what: ratio (limit), absolute figures`, and return whether the limit is met."""
    scale = {"s": 1.0, "ms": 1e3, "us": 1e6}[unit] / per
    met = measured.ratio <= limit
    print(
        f"{'ok  ' if met else 'MISS'} {what:<58} {measured.ratio:6.2f} x (<= {limit:g})   "
        f"{measured.ours_s * scale:9.2f} {unit} against {measured.theirs_s * scale:9.2f} {unit}",
        flush=True,
    )
    return met
