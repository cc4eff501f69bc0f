"""Files that a definition names: read as text, and only where they lie beside it or below the working directory."""

from __future__ import annotations

from pathlib import Path

from llmsess import definitions
from llmsess.errors import InvalidInput
from llmsess.settings import expanded
from llmsess.texts import one_line


def read_text(path: Path) -> str:
    """Return the text of a file of a definition; raises InvalidInput."""
    try:
        with path.open("rb") as file:
            return file.read(definitions.MAX_BYTES + 1).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise InvalidInput(f"{path} cannot be read: {reason}") from error


def inside(name: str, base: Path) -> Path:
    """Return the path of a file that a definition names, beside it or below the working directory.

    Raises InvalidInput for another: what strangers' definitions name is sent to a provider.
    """
    path = base / expanded(name.removeprefix("file://"))
    real = path.resolve()
    if not any(real.is_relative_to(folder.resolve()) for folder in (base, Path.cwd())):
        raise InvalidInput(f"{one_line(name, 80)} lies outside of the folder of the definition, and of the working one")
    return path
