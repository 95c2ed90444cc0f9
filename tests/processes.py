"""Processes that tests start, and how they wait for them.

Nothing else in the tests knows a clock (``tests/test_no_clocks.py``): what is asserted is what was
done, never how long it took. :data:`PATIENCE` only ends what hangs.
"""

from __future__ import annotations

import ast
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

#: Seconds. A hundred times what anything here takes, so that it is never a matter of load.
PATIENCE = 1800.0

#: Libraries of which no short command imports one.
HEAVY = {"torch", "diffusers", "cache_dit", "transformers", "numpy", "importlib.metadata", "shtab"}


def until(holds: Callable[[], Any], why: Callable[[], str] = lambda: "waited in vain") -> Any:
    """Ask again until something true comes back; `why` is said when nothing does."""
    end = time.monotonic() + PATIENCE
    while not (found := holds()):
        assert time.monotonic() < end, why()
        time.sleep(0.01)
    return found


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """What is started within can be interrupted.

    Where a script runs the tests in its background SIGINT is ignored, and what is started inherits
    that. What has a handler here has the default there.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def start(command: Sequence[str], **options: Any) -> subprocess.Popen[str]:
    """Start a command in a session of its own, as a shell starts it in a group of its own."""
    with interruptible():
        return subprocess.Popen(command, text=True, start_new_session=True, **options)


def run(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and take what it prints."""
    with interruptible():
        return subprocess.run(command, text=True, capture_output=True, timeout=PATIENCE, **options)


def heavy(code: str) -> tuple[str, list[str]]:
    """What a program prints, and which of the libraries that take long it imports."""
    code += f"\nimport sys\nprint('', sorted({HEAVY} & sys.modules.keys()), sep=chr(0), end='')"
    root = str(Path(__file__).parents[1])
    done = run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": root})
    printed, _, imported = done.stdout.partition("\0")
    return printed, ast.literal_eval(imported)


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Wait until a process ends; what it printed."""
    return process.communicate(timeout=PATIENCE)


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a process that :func:`start` started, with everything in its group."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    finish(process)


def end(process: subprocess.Popen[str]) -> None:
    """Ask such a process to end, which it may do or not, and kill what is left."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
    kill(process)
