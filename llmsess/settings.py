"""Where things lie and which defaults hold: read from the environment once, on demand, never at import.

Precedence is option > environment > default. `LLMSESS_HOME` moves everything, `LLMSESS_DB` the database,
`LLMSESS_MODEL` names the default model.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from llmsess.errors import InvalidInput


@dataclass(frozen=True)
class Settings:
    """What one process runs with; `load()` makes it."""

    home: Path
    db: Path
    model: str | None

    @classmethod
    def load(cls, db: str | os.PathLike[str] | None = None) -> Settings:
        """Return the settings for this environment; `db` overrides the database's path."""
        path = db or os.environ.get("LLMSESS_DB")
        home = expanded(os.environ["LLMSESS_HOME"]) if os.environ.get("LLMSESS_HOME") else None
        if home is None and not path:
            home = default_home()
        file = expanded(path) if path else (home or Path()) / "llmsess.db"
        return cls(home=home or file.parent, db=file, model=os.environ.get("LLMSESS_MODEL") or None)


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return the path with ~ as the home folder; raises InvalidInput where there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InvalidInput(f"{os.fspath(path)} names no folder: {error}", hint="write the whole path") from error


def default_home() -> Path:
    """Return the platform's folder for user data, `~/.local/share/llmsess` on Linux."""
    import platformdirs  # here: 5 ms that a given path does not need

    return platformdirs.user_data_path("llmsess", appauthor=False)
