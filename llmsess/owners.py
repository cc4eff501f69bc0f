"""Who holds an unfinished row: `host/pid/start` of a process, so that a reused process number is not mistaken for it.

What a dead owner on this host held may be taken over at once; what another host held, after its lease.
"""

from __future__ import annotations

import functools
import os
import socket
from datetime import datetime, timedelta
from pathlib import Path

from llmsess.db import database
from llmsess.models import now

LEASE_S = 60  # how long another host must not take a row over
RENEW_S = 15  # how often a live owner renews its lease


@functools.lru_cache(maxsize=8)
def _identity(pid: int) -> str:
    return f"{_host()}/{pid}/{started(pid)}"


@functools.cache
def _host() -> str:
    """Return the host, with the process namespace where there are such: a container may have its host's name."""
    try:
        return f"{socket.gethostname()}+{Path('/proc/self/ns/pid').readlink().name.strip('pid:[]')}"
    except OSError:
        return socket.gethostname()


def me() -> str:
    """Return this process's identity, right after a fork too."""
    return _identity(os.getpid())


def lease() -> datetime:
    """Return until when a lease taken now holds."""
    return now() + timedelta(seconds=LEASE_S)


def started(pid: int) -> str | None:
    """Return when the process started, as an opaque text, None if there is no such process."""
    if not Path("/proc/self/stat").exists():
        return _started_elsewhere(pid)
    fields = _stat(pid)
    return None if fields is None or fields[0] in "ZX" else f"{_boot()}-{fields[19]}"


def _stat(pid: int) -> list[str] | None:
    """Return what Linux says of a process, from its state on, None where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


@functools.cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    except OSError:  # hidden in some containers: the start time alone must do
        return "0"


def _started_elsewhere(pid: int) -> str | None:
    import psutil

    try:
        return str(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None


def is_gone(owner: str, lease_expires_at: datetime | None) -> bool:
    """Return whether the owner can no longer finish what it holds."""
    host, pid, start = owner.rsplit("/", 2) if owner.count("/") >= 2 else ("", "", "")
    if not pid.isdigit():
        return True  # nobody's: no process writes that
    if host != _host():
        return lease_expires_at is None or lease_expires_at < now()
    return started(int(pid)) != start


def has_let_go(owner: str, lease_expires_at: datetime | None) -> bool:
    """Return whether an owner is gone, or is a stopped process whose lease has run out.

    What is taken from a stopped one must be fenced: it may go on.
    """
    if is_gone(owner, lease_expires_at):
        return True
    expired = lease_expires_at is None or lease_expires_at < now()
    return expired and _is_stopped(int(owner.split("/")[-2]))


def _is_stopped(pid: int) -> bool:
    if Path("/proc/self/stat").exists():
        fields = _stat(pid)
        return fields is not None and fields[0] in "Tt"
    import psutil

    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.NoSuchProcess:
        return True


def any_held() -> bool:
    """Return whether any reply is unfinished; by an index, for every command asks."""
    return database.execute_sql("SELECT 1 FROM messages WHERE owner IS NOT NULL LIMIT 1").fetchone() is not None
