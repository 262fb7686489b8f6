"""House laws that no linter of ours knows: imports, budgets, and names that must not appear."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median, quantiles

import pytest

PROJECT = Path(__file__).parents[2]
MAXIMUM_MODULE_LINES = 400
MAXIMUM_BODY_LINES = 50
MAXIMUM_BODY_LINES_P95 = 30
MAXIMUM_BODY_LINES_MEDIAN = 8
WALL_CLOCKS = {
    *("datetime.now", "datetime.utcnow", "datetime.today", "datetime.datetime.now", "datetime.datetime.utcnow"),
    *("date.today", "datetime.date.today", "time.time", "time.time_ns", "time.localtime", "time.gmtime"),
}
CODE_RUNNING_FORMATS = {"pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve", "skops"}
EMPTY_WORDS = {"utils", "util", "helpers", "common", "core", "services", "managers", "misc"}


def modules(*folders: str) -> list[Path]:
    """The Python files under `folders`, by path from the project."""
    return sorted(path.relative_to(PROJECT) for folder in folders for path in (PROJECT / folder).rglob("*.py"))


SOURCES = modules("app", "ml")
EVERYTHING = modules("app", "ml", "tests", "benchmarks")


@cache
def read(module: Path) -> str:
    """The text of `module`."""
    return (PROJECT / module).read_text(encoding="utf-8")


@cache
def parse(module: Path) -> ast.Module:
    """The syntax tree of `module`."""
    return ast.parse(read(module), filename=str(module))


def dotted(node: ast.AST) -> str:
    """The dotted name that `node` spells, such as `datetime.now`; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value)
        return f"{owner}.{node.attr}" if owner else ""
    return ""


def names_used(tree: ast.Module) -> Iterator[str]:
    """Every dotted name that the code reads, and every one it imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif name := dotted(node):
            yield name


@dataclass(frozen=True)
class Body:
    """A function and how many lines its body has without its docstring."""

    where: str
    lines: int


def bodies(module: Path) -> Iterator[Body]:
    """Every function of `module`, those within functions and classes included."""
    for node in ast.walk(parse(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            statements = node.body[1:] if ast.get_docstring(node) is not None else node.body
            lines = (node.end_lineno or node.lineno) - statements[0].lineno + 1 if statements else 0
            yield Body(f"{module}:{node.lineno} {node.name}", lines)


def offenders(sources: list[Path], is_wrong: Callable[[str], bool]) -> list[str]:
    """Where the code uses a name that `is_wrong`."""
    return [f"{module}: {name}" for module in sources for name in names_used(parse(module)) if is_wrong(name)]


def test_imports_keep_their_contracts() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([linter, "--no-cache"], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("module", SOURCES, ids=str)
def test_module_is_within_its_budget_of_lines(module: Path) -> None:
    assert len(read(module).splitlines()) <= MAXIMUM_MODULE_LINES


def test_function_bodies_are_within_their_budget_of_lines() -> None:
    long = [body for module in EVERYTHING for body in bodies(module) if body.lines > MAXIMUM_BODY_LINES]
    assert long == []


def test_function_bodies_are_mostly_short() -> None:
    lines = [body.lines for module in SOURCES for body in bodies(module)]
    assert median(lines) <= MAXIMUM_BODY_LINES_MEDIAN
    assert quantiles(lines, n=20)[-1] <= MAXIMUM_BODY_LINES_P95


def test_splits_are_never_shuffled() -> None:
    assert [str(module) for module in SOURCES if "train_test_split" in read(module)] == []
    assert offenders(SOURCES, lambda name: name.rpartition(".")[2] in {"ShuffleSplit", "StratifiedKFold"}) == []


def test_files_that_can_run_code_are_never_read() -> None:
    loaders = {"joblib.load", "pandas.read_pickle", "pd.read_pickle"}
    assert offenders(SOURCES, lambda name: name in loaders or name.split(".")[0] in CODE_RUNNING_FORMATS) == []


def test_numpy_load_always_forbids_pickle() -> None:
    loads = [
        (str(module), [ast.unparse(keyword) for keyword in node.keywords if keyword.arg == "allow_pickle"])
        for module in SOURCES
        for node in ast.walk(parse(module))
        if isinstance(node, ast.Call) and dotted(node.func) in {"np.load", "numpy.load"}
    ]
    assert [load for load in loads if load[1] != ["allow_pickle=False"]] == []


def test_wall_clock_is_read_only_where_time_comes_from() -> None:
    sources = [
        module for module in SOURCES if module != Path("app/engine/clocks.py") and module.parts[1] != "observability"
    ]
    assert offenders(sources, WALL_CLOCKS.__contains__) == []


def test_tests_use_fakes_and_real_servers() -> None:
    banned = ("unittest.mock", "pytest_mock", "starlette.testclient", "fastapi.testclient")
    # Only what has the words is parsed, and that is little: a name is not spelled otherwise in the text.
    suspects = [module for module in EVERYTHING if any(word in read(module) for word in ("mock", "testclient"))]
    assert offenders(suspects, lambda name: name == "mock" or name.startswith(banned)) == []


def test_no_folder_or_module_is_named_after_nothing() -> None:
    assert [str(module) for module in SOURCES if EMPTY_WORDS & {*module.parent.parts, module.stem}] == []
