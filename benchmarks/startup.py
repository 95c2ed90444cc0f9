"""What importing the package and validating the adapters cost, as processes of their own."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from benchmarks.measure import Seconds, Spread, milliseconds, progress
from benchmarks.table import Row, is_met, skipped

ROOT = Path(__file__).resolve().parent.parent


def startup(count: int) -> list[Row]:
    """Rows for the import and for the command. Wall time, because people wait for it.

    Args:
        count: how many processes of each kind; they take turns.
    """
    commands = {
        "bare": [sys.executable, "-c", "pass"],
        "import": [sys.executable, "-c", "import cachedit_yaml"],
    }
    has_command = find_spec("cachedit_yaml.__main__") is not None
    validate = [sys.executable, "-m", "cachedit_yaml", "validate", "adapters/"]
    if has_command:
        commands["validate"] = validate
    taken: dict[str, list[Seconds]] = {name: [] for name in commands}
    for command in commands.values():
        subprocess.run(command, cwd=ROOT, capture_output=True, check=False)  # write bytecode
    with progress("start-up") as show:
        for number in range(count):
            show(number / count)
            for name, command in commands.items():
                taken[name].append(_time(command))
    pairs = zip(taken["import"], taken["bare"], strict=True)
    own = [with_import.wall - bare.wall for with_import, bare in pairs]
    rows = [_row("import cachedit_yaml", taken["bare"], own, 0.1, taken["import"])]
    name = "cachedit-yaml validate adapters/"
    if not has_command:
        return [*rows, skipped(name, "the command does not exist yet")]
    wall = [item.wall for item in taken["validate"]]
    return [*rows, _row(name, taken["bare"], wall, 0.5, taken["validate"])]


def _time(command: Sequence[str]) -> Seconds:
    """Run a process to its end.

    Raises:
        RuntimeError: it failed.
    """
    before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - wall
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        text = (done.stdout + done.stderr).strip()
        raise RuntimeError(f"{' '.join(command[1:])} failed:\n{text}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Seconds(wall, cpu)


def _row(
    name: str, bare: list[Seconds], own: list[float], target: float, whole: list[Seconds]
) -> Row:
    spread = Spread.of(own)
    return Row(
        name=name,
        uncached=f"{milliseconds(Spread.of([item.wall for item in bare]))} (bare Python)",
        ours=milliseconds(spread),
        ratio=f"{spread.median:.3f} s",
        quartiles=f"{spread.low:.3f} to {spread.high:.3f} s",
        target=f"under {target} s",
        met=is_met(spread, at_most=target),
        numbers={
            "seconds": vars(spread),
            "whole process, cpu": vars(Spread.of([item.cpu for item in whole])),
            "whole process, wall": vars(Spread.of([item.wall for item in whole])),
        },
    )
