"""Tests that kill something real say what they measured, and docs/faults.md is the table of it.

    @pytest.mark.fault("process", "a worker is killed")
    def test_x(fault, tmp_path):
        ...
        fault.saw(printed, "a worker died")                 # the very line that the user was shown
        fault.lost(step - continued_from, save_every)       # what was done again, and the most that it may be
        fault.equal(same(run, undisturbed))                 # or fault.unequal("why nobody can expect it")

    pytest -m fault -n 0 --faults    measures again and writes the page; rows of tests that did not run are kept
    python -m tests.faults           writes the page alone

A name may hold parameters of its test: "a run of {workers} workers is killed". Of cases with the same name that one counts which lost most.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "faults.md"
KINDS = {
    "process": "Processes",
    "node": "Nodes and clusters",
    "job": "Jobs",
    "storage": "Disks and storage",
}
HEAD = """# What happens when something dies

Each row is a test that kills something real and measures what becomes of the work: the lines that the user is shown, how much was
done again (or never will be) and the most that it may be, which is what lies between two checkpoints, and whether the result is that
of a run that nobody disturbed. Written by `pytest -m fault -n 0 --faults`, never by hand; the numbers are of the last time that a test ran,
and its settings are small. `...` stands for a folder.
"""
COLUMNS = "\n| what happens | what you see | lost | the result | test |\n|---|---|---|---|---|\n"

Row = dict[str, Any]
"""{"kind", "fault", "test", "sees": [line], "lost": [count, most, unit], "result"}."""


class Fault:
    """What one test measured of one fault."""

    def __init__(self, kind: str, name: str, test: str, hidden: Path) -> None:
        assert kind in KINDS, f"{kind} is no kind of fault: {', '.join(KINDS)}"
        self.row: Row = {"kind": kind, "fault": name, "test": test, "sees": []}
        self.hidden = str(hidden)

    def saw(self, said: str | Iterable[str], pattern: str) -> str:
        """The first of the lines that were shown in which `pattern` is found; there must be one."""
        lines = said.splitlines() if isinstance(said, str) else list(said)
        found = next((line for line in lines if re.search(pattern, line)), None)
        assert found is not None, f"nobody said {pattern!r}: {lines}"
        self.row["sees"].append(found.strip().replace(self.hidden, "..."))
        return found

    def lost(self, count: int, most: int, unit: str = "steps") -> None:
        """How much was done in vain, and the most that it may be: what lies between two checkpoints."""
        assert 0 <= count <= most, f"{count} {unit} were lost, and at most {most} may be"
        self.row["lost"] = [count, most, unit]

    def equal(self, same: bool, how: str = "the same, bit for bit") -> None:
        """Whether the result is that of an undisturbed run; it must be."""
        assert same, f"it is not {how}"
        self.row["result"] = how

    def unequal(self, why: str) -> None:
        """Why the result need not be that of an undisturbed run."""
        self.row["result"] = why

    def complete(self) -> None:
        missing = [name for name in ("sees", "lost", "result") if not self.row.get(name)]
        assert not missing, f"the test did not say: {', '.join(missing)}"


# ---- what pytest calls; tests/conftest.py imports it


@pytest.fixture()
def fault(request: pytest.FixtureRequest, tmp_path: Path) -> Fault:
    """Where a test that is marked as a fault says what it measured."""
    node = request.node
    kind, name = node.get_closest_marker("fault").args
    case = node.callspec.params if hasattr(node, "callspec") else {}
    found = Fault(kind, name.format(**case), f"{node.path.relative_to(ROOT)}::{node.originalname}", tmp_path)
    node.user_properties.append(("fault", found.row))
    return found


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--faults", action="store_true", help="write what the tests of faults measured into docs/faults.md"
    )


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    done = yield
    if isinstance(found := pyfuncitem.funcargs.get("fault"), Fault):
        found.complete()
    return done


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if config.getoption("--faults"):
        passed = terminalreporter.stats.get("passed", [])
        write([value for report in passed for name, value in report.user_properties if name == "fault"])


# ---- the page


def declared() -> dict[str, tuple[str, str]]:
    """Every test of a fault, as path::function, with the kind and the name that it is marked with."""
    found = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef):
                marks = [d for d in node.decorator_list if ast.unparse(d).startswith("pytest.mark.fault(")]
                for mark in marks:
                    found[f"{path.relative_to(ROOT)}::{node.name}"] = tuple(ast.literal_eval(a) for a in mark.args)
    return found


def recorded() -> list[Row]:
    """The rows as they were last measured."""
    path = PAGE.with_suffix(".json")
    return json.loads(path.read_text()) if path.exists() else []


def merged(old: Iterable[Row], new: Iterable[Row], tests: Mapping[str, Any]) -> list[Row]:
    """The rows with what was measured again, in the order of kinds and tests; without those of tests that are gone."""
    new = sorted(new, key=lambda row: row["lost"][0])
    again = {row["test"] for row in new}
    rows = {row["fault"]: row for row in [*(r for r in old if r["test"] not in again), *new] if row["test"] in tests}
    kinds, places = list(KINDS), list(tests)
    return sorted(rows.values(), key=lambda r: (kinds.index(r["kind"]), places.index(r["test"]), r["fault"]))


def page(rows: Iterable[Row], tests: Mapping[str, tuple[str, str]]) -> str:
    """docs/faults.md; tests that have not said anything yet are named at its end."""
    rows, text = list(rows), HEAD
    for kind, title in KINDS.items():
        of_kind = [f"| {' | '.join(cells(row))} |\n" for row in rows if row["kind"] == kind]
        text += f"\n## {title}\n{COLUMNS}{''.join(of_kind)}" if of_kind else ""
    measured = {row["test"] for row in rows}
    waiting = [f"- {name} ({test.partition('::')[0]})\n" for test, (_, name) in tests.items() if test not in measured]
    return text + ("\n## Not measured yet\n\n" + "".join(waiting) if waiting else "")


def cells(row: Row) -> list[str]:
    count, most, unit = row["lost"]
    lost = f"{count} {unit} of at most {most}" if count else "nothing"
    sees = "<br>".join("`" + line.replace("`", "'").replace("|", "\\|") + "`" for line in row["sees"])
    path, _, name = row["test"].partition("::")
    return [row["fault"], sees, lost, row["result"], f"[{name.removeprefix('test_')}](../{path})"]


def write(new: Iterable[Row]) -> None:
    """The rows and their page, with what was measured again."""
    tests = declared()
    rows = merged(recorded(), new, tests)
    PAGE.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")
    PAGE.write_text(page(rows, tests))


if __name__ == "__main__":
    write([])
