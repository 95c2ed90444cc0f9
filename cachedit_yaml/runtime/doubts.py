"""Whether a forward is of the branch that its place gives it: the place proposes, the values veto.

Where a loop makes its embeddings anew for each forward, no memory tells one prompt from another,
and a branch is its place in the step. Of each such branch the conditioning of its last forward is
held, by reference and never as a copy. A hit is allowed only where it has the same values now. They
are compared where they lie, and read together with the difference of the residuals, or at the
forwards that a static mask would serve. What has been another one in each step, and no other
forward's either, is no conditioning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Final, NamedTuple

import torch

from cachedit_yaml.runtime.identity import Trace, version_of

#: Forwards whose comparisons are kept until somebody reads them.
_MOST_ROWS: Final = 32


class Held(NamedTuple):
    """A tensor as it went into a forward.

    Attributes:
        tensor: it, without its history.
        trace: which memory it is.
    """

    tensor: torch.Tensor
    trace: Trace

    @property
    def gone(self) -> bool:
        """Whether something else was written over it."""
        return version_of(self.tensor) != self.trace.version

    def fits(self, other: Held) -> bool:
        """Whether the values of two can be compared."""
        one, two = self.tensor, other.tensor
        return (one.shape, one.dtype, one.device) == (two.shape, two.dtype, two.device)


class _Sign(Enum):
    """How a tensor compares with that of the last forward of its branch."""

    SAME = 0
    OTHER = 1
    MOVED = 2


class _Flag:
    """Whether something is so; a tensor ``[]`` until it is read."""

    __slots__ = ("value",)

    def __init__(self, value: torch.Tensor | bool) -> None:
        self.value = value

    def __bool__(self) -> bool:
        return bool(self.value)


class _Row:
    """A forward beside the one before.

    Attributes:
        differs: by tensor, whether it has other values.
        moved: by tensor, whether it has those of another forward.
        known: what it tells was told before it was read.
    """

    def __init__(self, differs: dict[str, _Flag]) -> None:
        self.differs = differs
        self.moved: dict[str, _Flag] = {}
        self.known = False

    @property
    def flags(self) -> Iterator[_Flag]:
        """All of them."""
        yield from self.differs.values()
        yield from self.moved.values()

    def sign(self, name: str) -> _Sign:
        """What it tells of a tensor."""
        if not self.differs[name]:
            return _Sign.SAME
        return _Sign.MOVED if self.moved.get(name) else _Sign.OTHER


class Values:
    """What conditioned the last two forwards of a branch.

    Attributes:
        last: the tensors of its last forward.
        before: those of the one before.
        epoch: how often it has turned out to be another branch.
    """

    def __init__(self) -> None:
        self.last: Mapping[str, Held] = {}
        self.before: Mapping[str, Held] = {}
        self.epoch = 0
        self.rows: list[_Row] = []
        # Those that have been the same once, or another forward's.
        self._prompts: set[str] = set()
        # The last ones, each with whether it was told already.
        self._signs: dict[str, list[tuple[_Sign, bool]]] = {}

    def free(self) -> None:
        """Hold nothing."""
        self.last, self.before = {}, {}
        self.rows.clear()
        self._signs.clear()
        self._prompts.clear()

    def held(self, storage: int) -> int:
        """How many tensors of a storage this holds."""
        own = (*self.last.values(), *self.before.values())
        return sum(item.trace.storage.cdata == storage for item in own)

    def learn(self, now: _Row) -> None:
        """Take in what was read.

        Args:
            now: the forward that has just been compared, which may yet turn out to be another's.
        """
        new: dict[str, int] = {}
        for row in self.rows:
            for name in row.differs:
                self._signs.setdefault(name, []).append((row.sign(name), row.known))
                new[name] = new.get(name, 0) + 1
        self.rows.clear()
        for name, count in new.items():
            signs = self._signs[name]
            if any(sign is not _Sign.OTHER for sign, _ in signs):
                self._prompts.add(name)
            others = [sign is _Sign.OTHER for sign, _ in signs]
            others.append(bool(now.differs.get(name)))
            for place in range(len(signs) - count, len(signs)):
                sign, told = signs[place]
                goes_on = others[place + 1] or (place > 0 and others[place - 1])
                if not told and (sign is _Sign.MOVED or (sign is _Sign.OTHER and not goes_on)):
                    self.epoch += 1
            del signs[:-2]

    def varies(self, name: str) -> bool:
        """Whether a tensor has been another one in each step so far, and so is no conditioning."""
        return name not in self._prompts and len(self._signs.get(name, ())) > 1

    def may_vary(self, name: str) -> bool:
        """The same, as far as is known before all is read."""
        return name not in self._prompts and len(self._signs.get(name, ())) + len(self.rows) > 1


class Doubt:
    """A forward that may be another branch's than the one whose place it has.

    Args:
        own: what conditioned the branch of that place.
        others: what conditioned the forwards of others, in earlier steps.
        tensors: what conditions this forward.
        unknown: that branch has run, and nobody has looked at what conditioned it.
    """

    def __init__(
        self,
        own: Values,
        others: Sequence[Mapping[str, Held]],
        tensors: Mapping[str, Held],
        *,
        unknown: bool,
    ) -> None:
        self._own, self._others, self._tensors = own, others, tensors
        self._unknown = unknown and not own.last
        self._another: bool | None = None
        names = own.last.keys() | tensors.keys() if own.last else ()
        self._row = _Row({name: _Flag(self._differs(name)) for name in sorted(names)})

    def _differs(self, name: str) -> torch.Tensor | bool:
        before, now = self._own.last.get(name), self._tensors.get(name)
        if before is None or now is None or not before.fits(now):
            return True
        if before.trace == now.trace or before.gone:
            return False
        return (before.tensor != now.tensor).any()

    def _moved(self, name: str) -> torch.Tensor | bool:
        now = self._tensors.get(name)
        pool = [self._own.before, *self._others]
        found = [tensors[name] for tensors in pool if name in tensors]
        if now is None:
            return False
        found = [item for item in found if item.fits(now) and not item.gone]
        if any(item.trace == now.trace for item in found):
            return True
        signs = [(item.tensor == now.tensor).all() for item in found]
        return torch.stack(signs).any() if signs else False

    def _look_elsewhere(self, wanted: Callable[[str], bool]) -> None:
        """Compare what differs, or may, with what conditioned other forwards."""
        moved = self._row.moved
        for name, flag in self._row.differs.items():
            if name not in moved and flag.value is not False and wanted(name):
                moved[name] = _Flag(self._moved(name))

    # --- what is read ---

    def unread(self, device: torch.device | None = None) -> list[_Flag]:
        """What is to be read, of those that lie on a device; of all for None."""
        if self._another is None:
            self._look_elsewhere(self._own.may_vary)
        rows = [] if self._another is not None else [*self._own.rows, self._row]
        flags = [flag for row in rows for flag in row.flags]
        return [item for item in flags if device in (None, _device_of(item)) and _device_of(item)]

    @property
    def another(self) -> bool:
        """Whether other values go in than into the last forward of the branch."""
        if self._another is None:
            left = self.unread()
            for device in {_device_of(item) for item in left}:
                flags = [item for item in left if _device_of(item) == device]
                _read(flags, _stacked(flags).tolist())
            self._own.learn(self._row)
            differing = [name for name, flag in self._row.differs.items() if flag]
            self._another = self._unknown or any(
                self._row.moved.get(name) or not self._own.varies(name) for name in differing
            )
            self._row.known = self._another
            self._own.epoch += self._another
        return self._another

    @property
    def compares(self) -> bool:
        """Whether there is something to compare."""
        return self._unknown or bool(self._row.differs)

    @property
    def asked(self) -> bool:
        """Whether it is known by now."""
        return self._another is not None

    @property
    def vetoed(self) -> bool:
        """Whether somebody has asked, and other values went in."""
        return self._another is True and not self._unknown

    @property
    def epoch(self) -> int:
        """How often the branch has turned out to be another one."""
        return self._own.epoch

    def settle(self) -> None:
        """The forward has run, and what it stored is conditioned by its tensors."""
        own, row = self._own, self._row
        if own.last:
            self._look_elsewhere(lambda name: True)
            own.rows.append(row)
            if len(own.rows) > _MOST_ROWS:
                del own.rows[0]
                own.epoch += 1
        own.before, own.last = own.last, self._tensors

    def leave(self) -> None:
        """The forward is over: hold nothing of it."""
        self._tensors, self._others = {}, ()


def _device_of(flag: _Flag) -> torch.device | None:
    return flag.value.device if isinstance(flag.value, torch.Tensor) else None


def _stacked(flags: Iterable[_Flag]) -> torch.Tensor:
    return torch.stack([item.value for item in flags if isinstance(item.value, torch.Tensor)])


def _read(flags: Iterable[_Flag], values: Iterable[float]) -> None:
    for flag, value in zip(flags, values, strict=True):
        flag.value = bool(value)


def read_with(doubt: Doubt | None, numbers: torch.Tensor) -> list[Any]:
    """Numbers ``[n]`` that are read anyway, and with them whose forward it is."""
    flags = [] if doubt is None else doubt.unread(numbers.device)
    if not flags:
        found: list[Any] = numbers.tolist()
        return found
    found = torch.cat([numbers, _stacked(flags).to(numbers)]).tolist()
    _read(flags, found[len(numbers) :])
    return found[: len(numbers)]
