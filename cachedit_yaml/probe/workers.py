"""Processes that work side by side and never outlive the one that started them.

Not a ``ProcessPoolExecutor``: that one waits for its work when it is interrupted, and when one of
its processes dies it does not say over what.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def can_fork() -> bool:
    """Whether this system can; without forking every process would import torch again."""
    return "fork" in multiprocessing.get_all_start_methods()


@dataclass(frozen=True)
class Died(Generic[Item]):
    """What is given in the place of a result: the process died over this item.

    Attributes:
        item: what it worked on.
        why: one sentence.
    """

    item: Item
    why: str


def side_by_side(
    function: Callable[[Item], Made], items: Sequence[Item], jobs: int
) -> Iterator[Made | Died[Item]]:
    """Call a function for every item in forked processes.

    When the iterator is closed or interrupted, the processes are killed at once. They also end by
    themselves when this process is gone, however it went.

    Args:
        function: what to call; what it returns must be picklable.
        items: what to call it with; not pickled.
        jobs: the number of processes.

    Yields:
        One result for each item, in their order.

    Raises:
        RuntimeError: the function raised; the message holds its traceback.
    """
    waiting = deque(range(len(items)))
    done: dict[int, Made | Died[Item]] = {}
    workers: list[_Worker] = []
    given = 0
    try:
        while given < len(items):
            while waiting and len(workers) < jobs:
                workers.append(_Worker(function, items, workers))
                workers[-1].begin(waiting.popleft())
            for worker in _ready(workers):
                try:
                    index, made = worker.finish()
                except EOFError:
                    workers.remove(worker)
                    done[worker.index] = Died(items[worker.index], worker.why_it_died())
                    continue
                done[index] = made
                if waiting:
                    worker.begin(waiting.popleft())
                else:
                    workers.remove(worker)
                    worker.end()
            while given in done:
                yield done.pop(given)
                given += 1
    finally:
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.end()


def _ready(workers: Sequence[_Worker]) -> list[_Worker]:
    ready = wait([worker.connection for worker in workers])
    return [worker for worker in workers if worker.connection in ready]


class _Worker:
    """One process, seen from the one that started it."""

    def __init__(
        self, function: Callable[[Any], Any], items: Sequence[Any], others: Sequence[_Worker]
    ) -> None:
        self.index = -1
        context = multiprocessing.get_context("fork")
        self.connection, theirs = context.Pipe()
        # A process that holds another's connection open would not let it see that we are gone.
        ours = [self.connection, *(other.connection for other in others)]
        self._process = context.Process(target=_work, args=(function, items, theirs, ours))
        # Until the process ignores it, an interrupt would end it with a traceback.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
            self._lead_group()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()

    def _lead_group(self) -> None:
        """Give it a group of its own, so that what it starts can be ended together with it.

        The process does so too: whichever of the two comes first.
        """
        pid = self._process.pid
        assert pid is not None
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)

    def begin(self, index: int) -> None:
        """Let it work on the item of this index."""
        self.index = index
        with contextlib.suppress(BrokenPipeError):  # it has died; that shows in finish()
            self.connection.send(index)

    def finish(self) -> tuple[int, Any]:
        """Its next result.

        Raises:
            EOFError: it has died.
        """
        try:
            made, error = self.connection.recv()
        except ConnectionResetError:
            raise EOFError from None
        if error is not None:
            raise error
        return self.index, made

    def why_it_died(self) -> str:
        """How it ended, in one sentence."""
        self.kill()  # what it had started
        self.end()
        code = self._process.exitcode or 0
        if code >= 0:
            return f"the process that tried it ended by itself, with exit code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        hint = "; was the memory full?" if name == "SIGKILL" else ""
        return f"the process that tried it was killed by {name}{hint}"

    def kill(self) -> None:
        """End it now, whatever it does, and everything that it has started."""
        if self._process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def end(self) -> None:
        """Let it end, and wait until it has."""
        self.connection.close()
        self._process.join()


def _work(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    connection: Connection,
    not_ours: Sequence[Connection],
) -> None:
    """What a process does: one item after the other, until the connection is closed."""
    os.setpgid(0, 0)
    # Whoever interrupts us interrupts the one that started us too, and that one kills us then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    for other in not_ours:
        other.close()
    indices: queue.SimpleQueue[int] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, indices), daemon=True).start()
    while True:
        item = items[indices.get()]
        try:
            answer: tuple[Any, RuntimeError | None] = (function(item), None)
        except Exception:
            # As text: an exception need not be picklable, and its traceback never is.
            answer = (None, RuntimeError(traceback.format_exc().rstrip()))
        connection.send(answer)


def _listen(connection: Connection, indices: queue.SimpleQueue[int]) -> None:
    """Pass on what to do; end the process, also in the middle of its work, when nobody listens."""
    while True:
        try:
            indices.put(connection.recv())
        except (EOFError, OSError):
            os.killpg(0, signal.SIGKILL)  # also what we have started
