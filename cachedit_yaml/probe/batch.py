"""Whether the samples of a batch get what each of them gets alone, with hits.

Two samples are made of what a transformer was called with: one stays the same from step to step, so
that it is served from the cache, and the other one changes, so that it is computed. Both run
together and apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch

from cachedit_yaml.runtime.handle import Handle
from cachedit_yaml.runtime.samples import latents_in
from cachedit_yaml.runtime.stats import BranchStats

#: The first step is warm-up; the sample that stays the same is served in the others.
STEPS: Final = 3
SETTINGS: Final[Mapping[str, Any]] = {
    "batch": "per_sample",
    "max_warmup_steps": 1,
    "residual_diff_threshold": 1e-3,
    "max_continuous_cached_steps": -1,
    "max_cached_steps": -1,
    "max_accumulated_residual_diff_threshold": None,
    "force_refresh_step_hint": None,
    "scm": None,
    "calibrator": None,
}
#: Mean error that other kernels for another batch make, with much to spare.
_ROUNDING: Final = 1e-4

Call = Mapping[str, Any]


class NoBatchError(Exception):
    """The transformer does not run such a batch, cached or not."""


class Batch:
    """Two samples for one transformer.

    Args:
        module: the transformer.
        call: the arguments of one of its forwards, by name.

    Raises:
        NoBatchError: it cannot run them together.
    """

    def __init__(self, module: torch.nn.Module, call: Call) -> None:
        self._module = module
        rows, latents = latents_in(call)
        if not rows:
            raise NoBatchError("none of its arguments has rows")
        self._latents = next(name for name, value in call.items() if value is latents)
        self._rows, self._listed = rows, not isinstance(latents, torch.Tensor)
        self._still = [{**call}] * STEPS
        other = {name: self._other(value) for name, value in call.items()}
        self._moving = [
            {**other, self._latents: _noise(latents, seed)} for seed in range(1, STEPS + 1)
        ]
        self._both = [
            {name: self._joined(one[name], moving[name]) for name in one}
            for one, moving in zip(self._still, self._moving, strict=True)
        ]
        try:
            self._plain = self._apart(*map(self.run, (self._still, self._moving)))
            together = self.run(self._both)
        except Exception as error:
            text = str(error).partition("\n")[0]
            raise NoBatchError(f"{type(error).__name__}: {text[:160]}") from error
        if not _near(together, self._plain):
            raise NoBatchError("its output for two samples is not what each of them gets alone")

    def _joined(self, one: Any, other: Any) -> Any:
        """Arguments of two samples as those of one batch."""
        if isinstance(one, torch.Tensor):
            fits = one.ndim and one.shape[0] == self._rows and other.shape[1:] == one.shape[1:]
            return torch.cat([one, other]) if fits else one
        if isinstance(one, dict):
            return {key: self._joined(value, other[key]) for key, value in one.items()}
        if self._by_sample(one):
            return [*one, *other]
        if isinstance(one, (list, tuple)) and not hasattr(one, "_fields"):
            return type(one)(self._joined(*pair) for pair in zip(one, other, strict=True))
        return one

    def _by_sample(self, value: Any) -> bool:
        """Whether a list holds something for each sample; tensors, where the latents are a list."""
        if not isinstance(value, (list, tuple)) or len(value) != self._rows or value[0] is None:
            return False
        return self._listed or not isinstance(value[0], torch.Tensor)

    def _other(self, value: Any) -> Any:
        """What conditions another sample: the same numbers in other places."""
        if isinstance(value, torch.Tensor):
            rows = value.ndim > 1 and value.shape[0] == self._rows
            return value.roll(1, -1) if rows and value.is_floating_point() else value
        if isinstance(value, dict):
            return {key: self._other(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
            return type(value)(self._other(item) for item in value)
        return value

    def _apart(self, one: Sequence[Any], other: Sequence[Any]) -> list[Any]:
        return [self._joined(*pair) for pair in zip(one, other, strict=True)]

    @torch.no_grad()
    def run(self, calls: Sequence[Call], handle: Handle | None = None) -> list[Any]:
        """One generation; what each forward returned, as mappings and lists of tensors."""
        if handle is None:
            return [_plain(self._module(**call)) for call in calls]
        generation, found = handle.stepwise(len(calls)), []
        for call in calls:
            with generation.step():
                found.append(_plain(self._module(**call)))
        return found

    def try_hits(self, handle: Handle) -> tuple[str | None, list[BranchStats]]:
        """Run it with caching on.

        Returns:
            What is wrong, or None; and the statistics of the batch.
        """
        self.run(self._still, handle)  # the first one shows what blocks write over
        alone, steps = [], []
        for calls in (self._still, self._moving):
            alone.append(self.run(calls, handle))
            steps.append([row.cached_steps for row in handle.stats().branches])
        together = self.run(self._both, handle)
        rows = list(handle.stats().branches)
        if any(row.together or row.unfit or as_one(row) for row in rows):
            return None, rows
        for index, row in enumerate(rows):
            each = [item.cached_steps for item in row.samples] or [row.cached_steps] * 2
            half = len(each) // 2
            for own, expected in zip((each[:half], each[half:]), steps, strict=True):
                if any(item != expected[index] for item in own):
                    return f"{row.blocks}: {own} steps cached, and alone {expected[index]}", rows
        if not _near(together, self._apart(*alone)):
            return "a sample of a batch is not what it is alone", rows
        return None, rows


def as_one(row: BranchStats) -> bool:
    """Whether a list decided for all samples as if they were one, such as a packed sequence."""
    return not row.samples and row.follows is None


def _noise(value: Any, seed: int) -> Any:
    """Latents of the same shape, or a list of them."""
    if not isinstance(value, torch.Tensor):
        return [_noise(item, seed + 100 * place) for place, item in enumerate(value)]
    if not value.is_floating_point():
        return value.roll(seed, -1)
    made = torch.randn(value.shape, generator=torch.Generator().manual_seed(seed))
    return made.to(value)


def _plain(output: Any) -> Any:
    """An output as mappings, lists and tensors; the tensors are copies."""
    if isinstance(output, torch.Tensor):
        return output.clone()
    if isinstance(output, Mapping):
        return {key: _plain(value) for key, value in output.items()}
    if isinstance(output, (list, tuple)):
        return [_plain(item) for item in output]
    return None


def _near(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if one.shape != other.shape:
            return False
        error = (one.double() - other.double()).abs().mean()
        return bool(error <= _ROUNDING * other.double().abs().mean() + 1e-12)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_near(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_near, one, other))
    return one is None and other is None
