"""Processes of `check` and `coverage`: their results, and that none of them is ever left over."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cachedit_yaml.cli.main import main
from cachedit_yaml.probe.workers import Died, can_fork, side_by_side
from tests import processes, tiny
from tests.processes import until

pytestmark = pytest.mark.skipif(
    not can_fork() or not Path("/proc/self/stat").exists(), reason="needs fork and /proc"
)


def children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


def state(pid: int) -> tuple[str, int]:
    """The state of a process, and its session."""
    try:
        found = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return "gone", 0
    return found[0], int(found[3])


def runs(pid: int) -> bool:
    return state(pid)[0] not in ("gone", "Z")  # Z: ended, and nobody has asked how yet


def running_in(session: int) -> list[int]:
    """The processes of a session, whoever started them."""
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [pid for pid in pids if runs(pid) and state(pid)[1] == session]


def double(number: int) -> int:
    return 2 * number


@pytest.mark.parametrize("jobs", [1, 2, 5, 40])
def test_results_in_order(jobs: int) -> None:
    assert list(side_by_side(double, range(20), jobs)) == [2 * number for number in range(20)]
    assert list(side_by_side(double, [], jobs)) == []
    assert multiprocessing.active_children() == []


def test_items_and_functions_need_not_be_picklable() -> None:
    items = [lambda: 1, lambda: 2]
    assert list(side_by_side(lambda item: item(), items, 2)) == [1, 2]


def test_what_a_function_raises() -> None:
    def divide(number: int) -> float:
        return 1 / number

    found = side_by_side(divide, [1, 0, 2], 1)
    assert next(found) == 1
    with pytest.raises(RuntimeError, match=r"in divide\n[\s\S]*ZeroDivisionError: division by"):
        next(found)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "killed by SIGKILL; was the memory full?"),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), "killed by SIGTERM"),
        (lambda: os._exit(3), "ended by itself, with exit code 3"),
    ],
)
def test_a_process_that_dies_takes_only_its_item_with_it(end: Callable[[], None], why: str) -> None:
    def work(number: int) -> int:
        if number in (1, 3):
            end()
        return number

    zero, one, two, three, four = side_by_side(work, range(5), 2)
    expected = f"the process that tried it {why if 'ended' in why else f'was {why}'}"
    assert (zero, two, four) == (0, 2, 4)
    assert (one, three) == (Died(1, expected), Died(3, expected))


def test_they_may_start_others() -> None:
    """cache-dit's own adapters are tried in a process of their own."""

    def work(number: int) -> int | None:
        process = multiprocessing.get_context("fork").Process(target=os._exit, args=(number,))
        process.start()
        process.join()
        return process.exitcode

    assert list(side_by_side(work, [3, 4], 2)) == [3, 4]


def test_what_they_start_ends_with_them() -> None:
    def work(_: int) -> int:
        return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE).pid

    def work_and_die(_: int) -> None:
        os.write(end, b"%d\n" % work(0))
        os._exit(1)

    found = side_by_side(work, [0, 0], 1)
    first = next(found)
    assert runs(first)
    found.close()  # type: ignore[attr-defined]
    until(lambda: not runs(first))
    start, end = os.pipe()
    assert isinstance(next(side_by_side(work_and_die, [0], 1)), Died)
    second = int(os.read(start, 20))
    until(lambda: not runs(second))


def test_closing_ends_them_in_the_middle_of_their_work() -> None:
    def work(number: int) -> int:
        while number:
            signal.pause()
        return number

    found = side_by_side(work, [0, 1, 1, 1], 2)
    assert next(found) == 0
    pids = [child.pid for child in multiprocessing.active_children()]
    assert len(pids) == 2
    found.close()  # type: ignore[attr-defined]
    assert not any(runs(pid) for pid in pids if pid)


class Command:
    """The command with two processes, as a shell starts it; forked, with what it imports.

    Args:
        folder: takes what it prints.
        arguments: what it is given.
    """

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._texts = [folder / "out", folder / "err"]
        self._process = multiprocessing.get_context("fork").Process(
            target=self._run, args=([*arguments, "--jobs", "2"],)
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def _run(self, arguments: list[str]) -> None:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, path in enumerate(self._texts, 1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        sys.exit(main(arguments))

    def finish(self) -> tuple[int | None, str, str]:
        """Wait until it ends; its exit code, and what it printed."""
        self._process.join(processes.PATIENCE)
        out, err = (path.read_text() if path.exists() else "" for path in self._texts)
        return self._process.exitcode, out, err

    def kill(self) -> None:
        """End it, and everything in its group."""
        if self._process.is_alive():
            os.killpg(self.pid, signal.SIGKILL)
        self._process.join()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Start the command with two processes."""
    started: list[Command] = []

    tiny.names()  # imports what the command needs, for all of its processes

    def begin(*arguments: str) -> Command:
        started.append(Command(tmp_path, *arguments))
        return started[-1]

    yield begin
    for command in started:
        command.kill()


@pytest.mark.parametrize(
    ("command", "number", "to_all", "code", "said"),
    [
        ("check", signal.SIGINT, True, 130, "cachedit-yaml: interrupted\n"),
        ("coverage", signal.SIGINT, False, 130, "cachedit-yaml: interrupted\n"),
        ("check", signal.SIGTERM, False, -signal.SIGTERM, ""),
        ("check", signal.SIGKILL, False, -signal.SIGKILL, ""),
    ],
)
def test_nothing_is_left_when_the_command_is_ended(
    start: Callable[..., Command],
    command: str,
    number: int,
    to_all: bool,
    code: int,
    said: str,
) -> None:
    process = start(command, *(["flux", "wan"] if command == "check" else []))
    # `coverage` tries cache-dit's adapters in further processes, which the first two start.
    number_of_processes = 3 if command == "check" else 4
    until(lambda: len(running_in(process.pid)) >= number_of_processes)
    if to_all:  # as Ctrl-C in a terminal does
        os.killpg(process.pid, number)
    else:
        os.kill(process.pid, number)
    assert process.finish() == (code, "", said)
    until(lambda: not running_in(process.pid))


def test_a_killed_process_is_a_failed_proof_that_names_its_adapter(
    start: Callable[..., Command],
) -> None:
    names = ["PixArtAlphaPipeline", "PixArtSigmaPipeline"]
    process = start("check", "pixart", "--format", "json", "--only", *names)
    first = until(lambda: children(process.pid))[0]
    os.kill(first, signal.SIGKILL)
    code, out, err = process.finish()
    assert (code, err) == (1, "")
    found = json.loads(out)
    (failed,) = [item for item in found["results"] if item["status"] == "failed"]
    assert failed["adapter"] == "pixart"
    assert failed["pipeline"] in names
    assert failed["detail"].startswith("the process that tried it was killed by SIGKILL")
    assert found["summary"]["proved"] >= 1
