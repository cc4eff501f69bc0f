"""On what kind of file system a file lies: on some, SQLite's write-ahead log corrupts."""

from __future__ import annotations

from pathlib import Path

NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "9p", "virtiofs", "fuse.", "afs", "ceph", "glusterfs")


def file_system(path: str, mounts: str = "/proc/mounts") -> str | None:
    """Return the type of the file system that holds `path`, None where the system does not tell."""
    try:
        lines = Path(mounts).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    best = ("", "")
    for line in lines:
        fields = line.split(" ")
        point = fields[1].replace("\\040", " ") if len(fields) > 2 else ""
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if point and inside and len(point) >= len(best[0]):
            best = (point, fields[2])
    return best[1] or None


def is_network(kind: str | None) -> bool:
    """Return whether a file system type is one on which WAL corrupts."""
    return bool(kind) and str(kind).startswith(NETWORK_FILE_SYSTEMS)
