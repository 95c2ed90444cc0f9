"""What importing the package and the commands that need no torch cost, as processes of their own.

``python -m benchmarks.startup`` prints the processor time of each command, beside that of ruff and
check-jsonschema on the same folders. They take turns, so that what else the machine does meets all.
"""

from __future__ import annotations

import argparse
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from benchmarks.measure import Seconds, Spread, milliseconds, progress
from benchmarks.table import Row, is_met, skipped

ROOT = Path(__file__).resolve().parent.parent
#: The commands that need no torch, as people call them.
COMMANDS: Final = (
    "--help",
    "--print-completion bash",
    "validate adapters/",
    "validate adapters/flux.yaml",
    "validate --format sarif adapters/",
    "validate --explain CY205",
    "list",
    "show flux",
    "explain flux",
    "schema",
    "doctor",
    "doctor --pipeline FluxPipeline",
    "run --help",
    "check --help",
    "tune --help",
)
#: Others on the same files, where they are installed.
OTHERS: Final[Mapping[str, tuple[str, ...]]] = {
    "ruff check --no-cache cachedit_yaml/": ("ruff", "check", "--no-cache", "cachedit_yaml/"),
    "check-jsonschema adapters/*.yaml": (
        "check-jsonschema", "--schemafile", "schemas/adapter.v1.schema.json",
        *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("adapters/*.yaml")
                if path.name != "defaults.yaml"),
    ),
}  # fmt: skip


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


def main() -> None:
    """Print the processor time of every command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    commands = {"python -c pass": [sys.executable, "-c", "pass"]}
    commands |= {
        f"cachedit-yaml {words}": [sys.executable, "-m", "cachedit_yaml", *words.split()]
        for words in COMMANDS
    }
    for name, (program, *words) in OTHERS.items():
        found = shutil.which(program, path=str(Path(sys.executable).parent)) or shutil.which(
            program
        )
        if found is not None:
            commands[name] = [found, *words]
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            seconds = _time(command).cpu
            if number:  # the first writes bytecode
                taken[name].append(seconds)
    print(f"{'processor time of a fresh process, seconds':<48} median  worst")
    for name, values in taken.items():
        print(f"{name:<48} {Spread.of(values).median:6.2f} {max(values):6.2f}")
    ours = max((Spread.of(taken[n]).median, n) for n in taken if n.startswith("cachedit-yaml"))
    print(f"slowest of ours: {ours[1]}, {ours[0]:.2f} s; Python {platform.python_version()}")


if __name__ == "__main__":
    main()
