"""Imports point one way, nothing heavy is loaded early, and only the places named open sockets, databases, terminals."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import llmsess

PACKAGE = Path(llmsess.__file__).parent
SUPPORT = {"errors", "version"}
LOW = SUPPORT | {"settings", "db", "texts", "models", "references", "owners", "rows", "crashpoints"}
ALLOWED: dict[str, set[str]] = {  # area: what it may import
    "errors": set(),
    "version": set(),
    "crashpoints": set(),
    "codeblocks": set(),
    "settings": SUPPORT,
    "db": SUPPORT | {"crashpoints", "filesystems", "settings"},
    "filesystems": set(),
    "scratch": SUPPORT | {"db"},
    "texts": SUPPORT | {"db"},
    "models": SUPPORT | {"db", "texts"},
    "references": SUPPORT | {"db", "rows", "texts"},
    "owners": LOW,
    "rows": SUPPORT | {"db"},
    "parts": LOW,
    "snippets": {"texts"},
    "prices": LOW,
    "request_parameters": SUPPORT | {"door", "texts"},
    "catalog": LOW | {"door", "prices", "request_parameters"},
    "listing": LOW | {"catalog", "door"},
    "door": SUPPORT | {"models", "texts"},
    "writing": LOW | {"door", "parts"},
    "sessions": LOW | {"catalog", "door", "listing", "parts", "prices", "request_parameters", "writing"},
    "tree": LOW | {"sessions", "writing"},
    "salvaging": LOW | {"sessions", "writing"},
    "marking": LOW | {"catalog", "contexts", "door", "sessions", "writing"},
    "keeping": LOW,
    "pruning": LOW | {"door", "marking", "sessions"},
    "autosaving": LOW | {"door", "marking", "pruning", "sessions"},
    "diffing": LOW | {"marking", "sessions", "writing"},
    "replaying": LOW
    | {"chat", "contexts", "marking", "prices", "providers", "retrying", "routing", "sessions", "writing"},
    "snapshots": LOW
    | {
        "autosaving",
        "diffing",
        "door",
        "keeping",
        "listing",
        "marking",
        "pruning",
        "replaying",
        "salvaging",
        "sessions",
        "writing",
    },
    "providers": {"errors", "models", "settings", "texts"},
    "recording": LOW | {"providers"},
    "settling": LOW | {"door", "parts", "prices", "providers", "recording", "sessions", "writing"},
    "recovering": LOW | {"settling", "writing"},
    "retrying": {"errors", "providers"},
    "contexts": LOW | {"prices", "providers", "writing"},
    "routing": LOW | {"catalog", "contexts", "door", "prices", "providers", "request_parameters", "retrying"},
    "attachments": LOW | {"providers", "sessions"},
    "schemas": LOW | {"codeblocks", "door"},
    "sandbox": {"errors", "models", "texts"},
    "templates": LOW | {"definitions", "door", "request_parameters", "sandbox", "schemas"},
    "chat": LOW
    | {
        "attachments",
        "contexts",
        "door",
        "providers",
        "recording",
        "recovering",
        "retrying",
        "routing",
        "schemas",
        "sessions",
        "settling",
        "writing",
    },
    "batches": LOW
    | {
        "attachments",
        "catalog",
        "contexts",
        "door",
        "exporters",
        "importers",
        "listing",
        "prices",
        "providers",
        "recording",
        "recovering",
        "request_parameters",
        "retrying",
        "routing",
        "sandbox",
        "schemas",
        "scratch",
        "settling",
        "templates",
        "writing",
    },
    "statistics": {"errors"},
    "definitions": SUPPORT | {"door", "texts"},
    "scorers": {"errors", "models", "sandbox", "schemas", "texts"},
    "comparisons": LOW
    | {
        "batches",
        "definitions",
        "door",
        "listing",
        "request_parameters",
        "routing",
        "sandbox",
        "scorers",
        "sessions",
        "spreadsheets",
        "statistics",
        "writing",
    },
    "search": LOW | {"catalog", "door", "snippets"},
    "analytics": LOW,
    "maintenance": LOW | {"door", "filesystems", "listing", "writing"},
    "importers": {"db", "errors", "models", "parts", "prices", "texts"},
    "finding": {"errors", "importers"},
    "bulk": LOW,
    "matching": LOW | {"catalog", "importers"},
    "linking": LOW | {"importers", "matching", "writing"},
    "ledger": LOW | {"importers", "matching"},
    "recordvalues": LOW | {"importers", "matching", "prices"},
    "staging": LOW | {"bulk", "importers", "ledger", "linking", "matching", "recordvalues", "writing"},
    "surveying": LOW | {"importers", "linking", "matching"},
    "dumping": LOW | {"parts"},
    "rowchecks": LOW | {"door", "dumping", "importers", "listing", "parts"},
    "restoring": LOW | {"bulk", "dumping", "importers", "linking", "matching", "rowchecks", "snapshotrows", "writing"},
    "snapshotrows": LOW | {"door", "dumping", "importers", "marking", "rowchecks", "sessions", "writing"},
    "transfer": LOW | {"finding", "importers", "matching", "restoring", "staging", "surveying"},
    "spreadsheets": set(),
    "exporters": {"errors", "spreadsheets"},
    "redaction": set(),
    "exporting": LOW
    | {"dumping", "exporters", "listing", "redaction", "salvaging", "sessions", "snapshotrows", "writing"},
    "migrations": set(),
}


def area(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imports(path: Path) -> list[tuple[int, str]]:
    """Return (line, module) of every import, those inside functions too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "llmsess":
            found += [(node.lineno, f"llmsess.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.lineno, node.module))
    return found


def modules(*skipped: str) -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if area(path) not in skipped]


def test_every_import_points_the_way_the_table_says() -> None:
    wrong = []
    for path in modules("cli", "__init__", "__main__"):
        for line, module in imports(path):
            target = module.split(".")[1] if module.startswith("llmsess.") else None
            if target and target != area(path) and target not in ALLOWED[area(path)]:
                wrong.append(f"{path}:{line} {area(path)} imports {target}")
    assert wrong == []


def test_migrations_import_only_peewee_and_playhouse() -> None:
    found = {module.split(".")[0] for path in (PACKAGE / "migrations").glob("*.py") for _, module in imports(path)}
    assert found - {"__future__", "typing"} <= {"peewee", "playhouse"}


def test_only_output_writes_to_the_terminal() -> None:
    wrong = []
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                wrong.append(f"{path}:{node.lineno} print")
            if isinstance(node, ast.Attribute) and node.attr in ("echo", "secho", "echo_via_pager"):
                wrong.append(f"{path}:{node.lineno} {node.attr}")
    assert [line for line in wrong if "cli/output.py" not in line] == []


def test_only_providers_open_sockets_and_only_db_opens_databases() -> None:
    network = {"openai", "anthropic", "httpx", "httpx2", "requests", "urllib", "http"}
    wrong = []
    for path in modules():
        for line, module in imports(path):
            first = module.split(".")[0]
            if first in network and area(path) != "providers":
                wrong.append(f"{path}:{line} imports {module}")
            if first in ("sqlite3", "pysqlite3") and area(path) != "db":
                wrong.append(f"{path}:{line} imports {module}")
    assert wrong == []


def test_importing_the_command_loads_nothing_heavy() -> None:
    heavy = ["openai", "anthropic", "tabulate", "yaml", "jinja2", "genai_prices", "platformdirs", "filelock", "peewee"]
    code = f"import sys, llmsess.cli; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_module_is_longer_than_it_may_be() -> None:
    long = {path: len(path.read_text().splitlines()) for path in modules("migrations")}
    assert {path: n for path, n in long.items() if n > 400 and path.name != "models.py"} == {}
