"""What `pip install .` installs works: a wheel, unpacked, without the checkout beside it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_an_installed_wheel_makes_and_fills_a_database(tmp_path: Path) -> None:
    source = tmp_path / "source"  # a copy: a build leaves folders behind, which a later build would pack
    shutil.copytree(ROOT / "llmsess", source / "llmsess", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = [
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path),
        str(source),
    ]  # fmt: skip
    subprocess.run(build, check=True, capture_output=True)
    [wheel] = tmp_path.glob("llmsess-*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    env = os.environ | {"PYTHONPATH": str(tmp_path / "installed"), "LLMSESS_DB": str(tmp_path / "new.db")}
    command = [sys.executable, "-m", "llmsess", "chat", "hello", "-m", "echo/echo"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
    where = subprocess.run(
        [sys.executable, "-c", "import llmsess; print(llmsess.__file__)"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
    )
    assert str(tmp_path) in where.stdout
