"""The last generations of a pipeline, as people ask for them."""

from __future__ import annotations

from collections import deque
from typing import Final

from cachedit_yaml.runtime.generation import MIXED, Generation

#: How many generations are remembered.
_MOST: Final = 32


class History(deque[Generation]):
    """The last generations, the newest last."""

    def __init__(self) -> None:
        super().__init__(maxlen=_MOST)
        self._mixed: Generation | None = None

    def mixed(self, shares: dict[str, int | None]) -> Generation:
        """The generation of forwards that may belong to either of two requests.

        Args:
            shares: executed steps of each transformer.
        """
        latest = self[-1] if self else None
        if latest is None or latest is not self._mixed:
            latest = self._mixed = Generation(None, shares, by_scheduler=False)
            latest.fail(MIXED)
            self.append(latest)
        return latest

    @property
    def shown(self) -> list[Generation]:
        """Those that are any.

        A forward after the last step is none: it may be a loop's first, or belong to no loop.
        """
        return [item for item in self if item.tick or not item.after]

    @property
    def latest(self) -> Generation | None:
        """The last one that is over, or whose end nobody tells; else the one that runs."""
        shown = self.shown
        # Only a scheduler tells of a last step that it has ended.
        over = [item for item in shown if item.ended or not (item.total and item.by_scheduler)]
        found = over or shown
        return found[-1] if found else None
