"""A forward in which some samples of a batch are served from the cache, and others computed.

The loop's tensors stay whole. Each middle block runs on the rows that are computed, cut out of
every argument whose first dimension is the batch; the other rows keep what came in, and get what is
stored at the end of the list, as they would alone. That blocks do to a part of the rows what they
do to all is proved the first time that it is needed (:mod:`cachedit_yaml.runtime.invariance`).
"""

from __future__ import annotations

import copy
import enum
import weakref
from collections.abc import Callable, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final

import torch

from cachedit_yaml.runtime import compiled, storing
from cachedit_yaml.runtime.identity import shape_of, version_of
from cachedit_yaml.runtime.invariance import differing
from cachedit_yaml.runtime.outputs import describe

if TYPE_CHECKING:
    from cachedit_yaml.runtime.blocks import ListRunner
    from cachedit_yaml.runtime.passes import ListPass
    from cachedit_yaml.runtime.samples import Layout

#: What an argument may be besides tensors and what holds them: nothing in it can be rows.
_PLAIN: Final = (
    type(None), bool, int, float, complex, str, bytes, enum.Enum, slice, torch.dtype, torch.device,
    torch.layout, torch.Generator, torch.nn.Module, type, FunctionType, MethodType,
    BuiltinFunctionType,
)  # fmt: skip


class DeviationError(Exception):
    """On a hit the loop called other blocks than on the step that was stored: run it again."""


class TogetherError(DeviationError):
    """The rows cannot be run apart: run the forward again."""


class Split:
    """Which samples are computed in a forward, and which are served from the cache.

    Args:
        runner: the list that decides.
        layout: which rows belong to which sample.
        hits: for each sample whether it is served.
        rows: rows of the hidden states.
        kind: what such batches have alike, for what is found out of one.

    Attributes:
        hits: as above.
        computed: the samples that are computed.
        served: the others.
        share: of the rows, how many are computed.
        wide: what has several rows for each of the latents carries the batch too, such as a mask
            for each head of each sample.
        static: the blocks are compiled for one number of rows at a time, unless it is marked.
    """

    def __init__(
        self, runner: ListRunner, layout: Layout, hits: tuple[bool, ...], rows: int, kind: Any
    ) -> None:
        self._runner, self._kind = runner, kind
        self.layout, self.rows, self.hits = layout, rows, hits
        self.computed = [sample for sample, hit in enumerate(hits) if not hit]
        self.served = [sample for sample, hit in enumerate(hits) if hit]
        self.share = len(self.computed) / len(hits)
        self.wide = self.static = False
        self._indices: dict[tuple[torch.device, int, bool], torch.Tensor] = {}
        # What was taken from which tensor: for the last block, and for this one.
        self._known: dict[int, tuple[torch.Tensor, int, torch.Tensor]] = {}
        self._taken: dict[int, tuple[torch.Tensor, int, torch.Tensor]] = {}

    def over(self, rows: int) -> Split:
        """The same for a list whose hidden states have another number of rows."""
        if rows == self.rows:
            return self
        made = copy.copy(self)
        made.rows, made._indices, made._known, made._taken = rows, {}, {}, {}
        return made

    def refuse(self, why: str) -> TogetherError:
        """From now on all samples of such a batch decide together."""
        self._runner.together[self._kind] = why
        if self._runner.running is not None:
            self._runner.running.branch.computed_together(why)
        return TogetherError(why)

    def index(self, like: torch.Tensor, total: int | None = None, served: bool = False) -> Any:
        """The rows that are computed, or those that are served, as indices ``[r]``.

        Args:
            like: a tensor on the device where they are needed.
            total: rows of what they are taken from; those of the hidden states unless given.
            served: which.
        """
        total = self.rows if total is None else total
        key = like.device, total, served
        if key not in self._indices:
            rows = self.layout.rows_of(self.served if served else self.computed, total)
            self._indices[key] = torch.tensor(rows, device=like.device)
        return self._indices[key]

    def part(self, tensor: torch.Tensor, served: bool = False) -> torch.Tensor:
        """Those rows of a tensor, ``[r x ...]``."""
        return tensor.index_select(0, self.index(tensor, tensor.shape[0], served))

    def put(self, whole: torch.Tensor, part: torch.Tensor, served: bool = False) -> torch.Tensor:
        """A copy of a tensor with other rows in the place of those.

        Raises:
            TogetherError: they do not fit.
        """
        index = self.index(whole, whole.shape[0] if whole.ndim else 0, served)
        if part.shape != (len(index), *whole.shape[1:]) or part.dtype != whole.dtype:
            raise self.refuse("its blocks return another shape or type than they take")
        whole = whole.to(part.device)
        made = whole.index_copy(0, index.to(part.device), part)
        if not served:
            self._remember(made, part)
        return made

    def _remember(self, whole: torch.Tensor, part: torch.Tensor) -> None:
        if not whole.is_inference():  # there nobody counts what is written over it
            self._taken[id(whole)] = whole, version_of(whole), part

    def take(self, value: Any) -> Any:
        """An argument, or all of them, cut down to the rows that are computed.

        Raises:
            TogetherError: it is something that may hold rows in its own way.
        """
        if isinstance(value, torch.Tensor):
            if not self.carries(value):
                return value
            known = self._taken.get(id(value)) or self._known.get(id(value))
            if known is not None and known[1] == version_of(value):
                self._taken[id(value)], part = known, known[2]
            else:
                part = self.part(value)
                self._remember(value, part)
            if self.static:
                compiled.mark(part)
            return part
        if isinstance(value, _PLAIN):
            return value
        if isinstance(value, Mapping) and type(value) is dict:
            named = {key: self.take(item) for key, item in value.items()}
            same = all(named[key] is item for key, item in value.items())
            return value if same else named
        if isinstance(value, (list, tuple)):
            items = [self.take(item) for item in value]
            if all(one is other for one, other in zip(items, value, strict=True)):
                return value
            return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
        raise self.refuse(f"its blocks take {describe(value)}, which may hold rows of its own")

    def carries(self, tensor: torch.Tensor) -> bool:
        """Whether the first dimension of an argument is the batch."""
        rows = tensor.shape[0] if tensor.ndim else 0
        if rows in (self.rows, self.layout.count):
            return True
        return self.wide and rows > self.rows and rows % self.layout.count == 0

    def widen(self, wide: bool) -> None:
        """Set `wide`."""
        if wide != self.wide:
            self.wide, self._known, self._taken = wide, {}, {}

    def next_block(self) -> None:
        """Forget what the last block was given, and this one was not."""
        self._known, self._taken = self._taken, {}

    def key(self, value: Any) -> Any:
        """What arguments look like: which of them carry the batch."""
        if isinstance(value, torch.Tensor):
            return value.ndim, value.dtype, self.carries(value)
        if isinstance(value, (list, tuple)):
            return tuple(map(self.key, value))
        if isinstance(value, Mapping):
            return tuple((name, self.key(item)) for name, item in value.items())
        return type(value)


def middle(
    run: ListPass,
    index: int,
    inner: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Stand in for a middle block where only some samples are computed.

    Args:
        run: the pass.
        index: the block.
        inner: its forward.
        args: of the call.
        kwargs: of the call.

    Raises:
        TogetherError: it turns out that the rows cannot be run apart.
    """
    split, runner, branch = run.split, run.runner, run.branch
    assert split is not None
    binding = runner.plan.binding
    hidden = binding.hidden.get(args, kwargs)
    rest = given = binding.encoder.get(args, kwargs) if binding.encoder else run.encoder
    encoder = rest if isinstance(rest, torch.Tensor) and run.keeps_encoder else None
    if hidden.shape[0] != split.rows or runner.entries is not None or binding.passes:
        raise split.refuse("its blocks keep or return more than tensors of the batch")
    if encoder is not None and not split.carries(encoder):
        raise split.refuse("its encoder hidden states have no rows of their own")
    if run.applied is None:
        kept = None if encoder is None else split.part(encoder, served=True)
        run.applied = branch.apply(split.part(hidden, served=True), kept, split)
    split.widen(runner.wide)
    split.static = compiled.is_static(inner)
    own_args, own_kwargs = split.take(args), split.take(kwargs)
    own_encoder = binding.encoder.get(own_args, own_kwargs) if binding.encoder else None
    if run.first_hidden is None:
        own_hidden = binding.hidden.get(own_args, own_kwargs)
        before = None if encoder is None else split.take(encoder)
        run.first_hidden = run.keep(own_hidden)
        run.first_encoder = run.keep(before) if isinstance(before, torch.Tensor) else None
        run.first_versions = version_of(run.first_hidden), version_of(run.first_encoder)
    key = index, split.key(args), split.key(kwargs)
    if key not in runner.proved:
        why = differing(run, split, inner, (args, kwargs), (own_args, own_kwargs))
        branch.ran(split, whole=1)
        if why is not None and not runner.wide:
            runner.wide, run.first_hidden = True, None
            return middle(run, index, inner, args, kwargs)
        if why is not None:
            raise split.refuse(why)
        runner.proved.add(key)
    try:
        output = inner(*own_args, **own_kwargs)
    except Exception as error:
        if compiled.gave_up(error):
            raise split.refuse(f"the compiler gave up ({type(error).__name__})") from error
        raise
    branch.ran(split)
    made, own_rest = runner.split(output)
    whole = split.put(hidden, made)
    if run.outputs is not None:
        run.outputs.append(weakref.ref(whole))
    if encoder is not None and isinstance(own_rest, torch.Tensor):
        rest = encoder if own_rest is own_encoder else split.put(encoder, own_rest)
    if binding.encoder is None:
        run.encoder = rest
    split.next_block()
    if index == branch.last_middle:
        if branch.replaced is not None and shape_of(given) != branch.replaced:
            raise split.refuse("the loop replaces the encoder hidden states")
        storing.part(run, made, own_rest)
        served, beside = run.applied
        whole = split.put(whole, served, served=True)
        if beside is not None and isinstance(rest, torch.Tensor):
            rest = split.put(rest, beside, served=True)
    return runner.join(whole, rest)
