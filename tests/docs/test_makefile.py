"""The Makefile sets itself up once, again when a lock file changes, and anew when something went wrong.

The real Makefile runs in an empty folder, with stand-ins for Python and uv that write down what they are asked.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
MAKE = shutil.which("make") or ""

pytestmark = pytest.mark.skipif(not MAKE, reason="there is no make on this machine")

PYTHON = f"""#!/bin/sh
case "$1 $2" in
"-m venv") mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; echo "venv by $(basename "$0")" >> "$LOG" ;;
"-m pip") [ ! -e break ] || exit 1; shift 2; echo "pip $*" >> "$LOG" ;;
"-m app") echo "app $3" >> "$LOG" ;;
*) exec {sys.executable} "$@" ;;
esac
"""
UV = """#!/bin/sh
case "$1" in
--version) ;;
venv) mkdir -p .venv/bin; cp "$STAND_INS/python3.12" .venv/bin/python; echo "uv venv" >> "$LOG" ;;
*) [ ! -e break ] || exit 1; echo "uv $* (index $UV_DEFAULT_INDEX)" >> "$LOG" ;;
esac
"""
ABSENT = "#!/bin/sh\nexit 127\n"
CANDIDATES = ("python3.13", "python3.12", "python3.11", "python3", "python")


@dataclass
class Place:
    """A copy of the Makefile in a folder of its own, and what its stand-ins were asked."""

    folder: Path

    def put(self, name: str, script: str) -> None:
        """Put a command on the PATH, ahead of the machine's own."""
        command = self.folder / "stand-ins" / name
        command.write_text(script)
        command.chmod(0o755)

    def make(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run make there, without the flags and variables of a make that runs these tests."""
        stand_ins = self.folder / "stand-ins"
        basic = {"PATH": f"{stand_ins}:/usr/bin:/bin", "LOG": str(self.folder / "log"), "STAND_INS": str(stand_ins)}
        return subprocess.run(
            [MAKE, *arguments],
            cwd=self.folder,
            env=basic | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def asked(self) -> list[str]:
        """What the stand-ins were asked since the last call."""
        log = self.folder / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A machine with Python 3.12 as `python3.12`, and no uv."""
    (tmp_path / "stand-ins").mkdir()
    for name in ("Makefile", "requirements.txt", "requirements-dev.txt"):
        shutil.copy(PROJECT / name, tmp_path)
    place = Place(tmp_path)
    for name in (*CANDIDATES, "uv"):
        place.put(name, ABSENT)
    place.put("python3.12", PYTHON)
    return place


def later(path: Path) -> None:
    """Make `path` newer than everything else."""
    stat = path.stat()
    os.utime(path, (stat.st_atime + 100, stat.st_mtime + 100))


def test_make_run_first_time_installs_from_hashes_and_second_time_only_starts(place: Place) -> None:
    assert place.make("run").returncode == 0
    venv, install, start = place.asked()
    assert venv == "venv by python3.12"
    assert install.startswith("pip install")
    assert install.endswith("--require-hashes --only-binary :all: -r requirements.txt")
    assert start == "app serve"
    assert place.make("run").returncode == 0
    assert place.asked() == ["app serve"]


def test_make_run_changed_lock_file_installs_again(place: Place) -> None:
    place.make("run")
    place.asked()
    later(place.folder / "requirements.txt")
    place.make("run")
    assert [line.split()[0] for line in place.asked()] == ["pip", "app"]


def test_make_run_after_development_set_up_installs_nothing(place: Place) -> None:
    assert place.make(".venv/.dev").returncode == 0
    assert place.asked()[-1].endswith("-r requirements-dev.txt")
    assert place.make("run").returncode == 0
    assert place.asked() == ["app serve"]


def test_make_test_after_run_installs_the_development_packages_into_the_same_environment(place: Place) -> None:
    place.make("run")
    place.asked()
    assert place.make(".venv/.dev").returncode == 0
    assert [line.split()[0] for line in place.asked()] == ["pip"]


def test_make_run_broken_off_installation_is_done_anew(place: Place) -> None:
    (place.folder / "break").touch()
    assert place.make("run").returncode != 0
    assert not (place.folder / ".venv" / ".runtime").exists()
    (place.folder / "break").unlink()
    place.asked()
    assert place.make("run").returncode == 0
    assert [line.split()[0] for line in place.asked()] == ["venv", "pip", "app"]
    assert not (place.folder / ".venv" / ".installing").exists()


def test_make_run_environment_whose_python_is_gone_is_built_anew(place: Place) -> None:
    place.make("run")
    place.asked()
    (place.folder / ".venv" / "bin" / "python").write_text(ABSENT)
    assert place.make("run").returncode == 0
    assert [line.split()[0] for line in place.asked()] == ["venv", "pip", "app"]


def test_make_run_while_another_installs_says_so_and_touches_nothing(place: Place) -> None:
    (place.folder / ".venv").mkdir()
    (place.folder / ".venv" / ".installing").write_text(f"{os.getpid()}\n")
    result = place.make("run")
    assert result.returncode != 0
    assert f"Process {os.getpid()} is installing" in result.stderr
    assert place.asked() == []


def test_make_run_with_uv_installs_with_uv_from_pips_index(place: Place) -> None:
    place.put("uv", UV)
    assert place.make("run", PIP_INDEX_URL="https://packages.example/simple").returncode == 0
    venv, install, start = place.asked()
    assert venv == "uv venv"
    assert install.startswith("uv pip install")
    assert "--require-hashes --only-binary :all: -r requirements.txt" in install
    assert install.endswith("(index https://packages.example/simple)")
    assert start == "app serve"


def test_make_run_without_a_fitting_python_says_what_to_install(place: Place) -> None:
    place.put("python3.12", ABSENT)
    result = place.make("run")
    assert result.returncode != 0
    assert "Python 3.11, 3.12 or 3.13 is needed and none was found." in result.stderr
    assert "sudo apt install python3 python3-venv" in result.stderr
    assert not (place.folder / ".venv").exists()


def test_make_run_python_without_venv_names_the_package(place: Place) -> None:
    place.put("python3.12", PYTHON.replace("*) exec", '"-c import ensurepip, venv") exit 1 ;;\n*) exec'))
    result = place.make("run")
    assert result.returncode != 0
    assert "python3.12 cannot create virtual environments." in result.stderr
    assert "sudo apt install python3-venv" in result.stderr


def test_make_run_named_python_is_used(place: Place) -> None:
    place.put("my-python", PYTHON)
    assert place.make("run", "PYTHON=my-python").returncode == 0
    assert place.asked()[0] == "venv by my-python"


def test_make_help_lists_every_target_with_a_sentence(place: Place) -> None:
    makefile = (PROJECT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    listed = {line.split()[0] + " " + line.split()[1] for line in place.make().stdout.splitlines()}
    assert listed == {f"make {target}" for target in phony[1].split() if target != "FORCE"}


def test_make_check_runs_lint_types_imports_and_the_tests(place: Place) -> None:
    plan = place.make("-n", "check").stdout
    for part in ("ruff check", "ruff format --check", "hadolint Dockerfile", "mypy", "lint-imports", "-m pytest"):
        assert part in plan


def test_ci_run_is_executable_and_runs_make_check() -> None:
    script = PROJECT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = script.read_text().splitlines()
    assert "set -euo pipefail" in lines
    assert lines[-1] == "make check"
