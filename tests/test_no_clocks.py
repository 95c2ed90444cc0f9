"""No test depends on how fast the machine is: a clock is read in ``tests/processes.py`` only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
#: The one place with a clock, and why nothing there is a matter of load.
CLOCKS = {HERE / "processes.py": "it waits for half an hour"}
#: What waits for a number of seconds where it gets one.
WAITS = {"wait", "wait_for", "join", "communicate", "acquire", "get", "result", "urlopen", "sleep"}


def found(path: Path) -> Iterator[str]:
    """What of a file depends on time."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        place = f"{path.relative_to(HERE)}:{getattr(node, 'lineno', 0)}"
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        if {name.partition(".")[0] for name in names} & {"time", "timeit", "sched"}:
            yield f"{place}: imports a clock"
        if not isinstance(node, ast.Call):
            continue
        for keyword in node.keywords:
            none = isinstance(keyword.value, ast.Constant) and keyword.value.value is None
            if keyword.arg in ("timeout", "deadline") and not none:
                yield f"{place}: {keyword.arg}="
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        first = node.args[0] if node.args else None
        if name in WAITS and isinstance(first, ast.Constant) and type(first.value) in (int, float):
            yield f"{place}: {name}({first.value})"


def test_no_clocks() -> None:
    files = [path for path in HERE.rglob("*.py") if path not in CLOCKS]
    assert len(files) > 80
    assert [line for path in files for line in found(path)] == []


@pytest.mark.parametrize(
    "source",
    ["import time", "from time import sleep", "a.wait(30)", "run(x, timeout=5)", "f(deadline=9)"],
)
def test_what_would_be_found(tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "HERE", tmp_path)
    (tmp_path / "a.py").write_text(source)
    assert len(list(found(tmp_path / "a.py"))) == 1
