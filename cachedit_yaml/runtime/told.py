"""What `refresh` tells: how many steps the next generation executes."""

from __future__ import annotations

import threading
import weakref


class Told:
    """Numbers of steps, by the thread that told them, until a generation takes them."""

    def __init__(self) -> None:
        self._steps: dict[int, int | None] = {}
        self._tellers: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._steps)

    def tell(self, steps: int | None) -> None:
        """This thread's next forward, or that of a thread that tells nothing, begins anew."""
        with self._lock:
            alive = {thread.ident for thread in threading.enumerate()}
            self._steps = {key: value for key, value in self._steps.items() if key in alive}
            self._steps[threading.get_ident()] = steps

    def take(self) -> tuple[int | None] | None:
        """What was told, by this thread or by one that only tells; None where nothing was."""
        if not self._steps:
            return None
        with self._lock:
            thread = threading.get_ident()
            if thread in self._steps:
                self._tellers.add(threading.current_thread())
            elif self._steps and threading.current_thread() not in self._tellers:
                thread = next(iter(self._steps))
            else:
                return None
            return (self._steps.pop(thread),)
