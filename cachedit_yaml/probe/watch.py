"""Count what really runs, below everything that caching installs."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

from cachedit_yaml.compiler.plan import ListPlan, Plan, TransformerPlan
from cachedit_yaml.probe.pipelines import tensor_of
from cachedit_yaml.runtime.branches import Parameters, counts_as_denoising
from cachedit_yaml.runtime.patching import Around


class Watch:
    """Counts runs of blocks and transformers while it is entered, which is before enabling.

    Each block's own forward is replaced on the instance, so hooks that come later wrap it. Some
    pipelines run several generations in one call; what is counted is the last one, as in the
    statistics of a handle. Forwards that the adapter says are no denoising steps do not count.

    Attributes:
        forwards: forwards by transformer.
        calls: runs of each block's own forward, by transformer, list and index.
        shapes: of the hidden states that reach the first block of each list, call by call.
        first: the arguments of the first forward of each transformer that was watched, by name.
        outputs: the sum of what each forward of a transformer returned, by transformer.
        whole: forwards by transformer, of every generation in the call.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.forwards: Counter[str] = Counter()
        self.calls: Counter[tuple[str, str, int]] = Counter()
        self.shapes: dict[tuple[str, str], list[torch.Size]] = {}
        self.outputs: dict[str, list[float]] = {}
        self.whole: Counter[str] = Counter()
        self.first: dict[str, dict[str, Any]] = {}
        self._fresh = False
        self._timesteps: Any = None
        self._counting = True
        self._patched: list[Around] = []
        self._hooks: list[Any] = []

    def __enter__(self) -> Watch:
        scheduler = self.plan.scheduler
        if callable(getattr(scheduler, "set_timesteps", None)):
            self._patch(scheduler, "set_timesteps", self._renewed)
        for transformer in self.plan.transformers:
            parameters = Parameters(transformer.module.forward)
            hook = functools.partial(self._on_forward, transformer, parameters)
            self._hooks.append(transformer.module.register_forward_pre_hook(hook, with_kwargs=True))
            after = functools.partial(self._after_forward, transformer.path)
            self._hooks.append(transformer.module.register_forward_hook(after))
            for blocks in transformer.lists:
                for index, block in enumerate(blocks.blocks):
                    key = (transformer.path, blocks.path, index)
                    self._patch(block, "forward", functools.partial(self._count, key, blocks))
        return self

    def __exit__(self, *exception: object) -> None:
        for patch in reversed(self._patched):
            patch.remove()
        for hook in self._hooks:
            hook.remove()
        self._patched, self._hooks = [], []

    def by_name(self) -> None:
        """Watch the forwards themselves: who calls them by name runs no hooks.

        What runs blocks outside of them (a prompt that is read first) does not count.
        """
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self._counting = False
        for transformer in self.plan.transformers:
            parameters = Parameters(transformer.module.forward)
            around = functools.partial(self._forward, transformer, parameters)
            self._patch(transformer.module, "forward", around)

    def _forward(
        self,
        plan: TransformerPlan,
        parameters: Parameters,
        inner: Callable[..., Any],
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        self._on_forward(plan, parameters, plan.module, args, kwargs)
        output = inner(*args, **kwargs)
        self._counting = False
        self._after_forward(plan.path, plan.module, args, output)
        return output

    def _patch(self, owner: Any, name: str, around: Callable[..., Any]) -> None:
        patch = Around(owner, name, around)
        self._patched.append(patch)
        patch.install()

    def clear(self) -> None:
        """Begin to count anew."""
        self.whole.clear()
        self._begin()

    def _begin(self) -> None:
        """A generation begins."""
        self._fresh = False
        self.forwards.clear()
        self.calls.clear()
        self.shapes.clear()
        self.outputs.clear()

    def _renewed(self, inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._fresh = True
        return inner(*args, **kwargs)

    def _on_forward(
        self,
        plan: TransformerPlan,
        parameters: Parameters,
        _: torch.nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None = None,
    ) -> None:
        if kwargs is None:
            return  # so torch calls a hook that was removed while another thread was on its way
        self._counting = counts_as_denoising(plan, parameters, args, kwargs)
        if not self._counting:
            return
        # Some pipelines put the timesteps of each generation into the scheduler by themselves.
        timesteps = getattr(self.plan.scheduler, "__dict__", {}).get("timesteps")
        if self._fresh or timesteps is not self._timesteps:
            self._begin()
            self._timesteps = timesteps
        self.forwards[plan.path] += 1
        self.whole[plan.path] += 1
        self.first.setdefault(plan.path, parameters.named(args, kwargs))

    def _after_forward(self, path: str, _: Any, __: Any, output: Any) -> None:
        self.outputs.setdefault(path, []).append(float(tensor_of(output).double().sum()))

    def _count(
        self,
        key: tuple[str, str, int],
        blocks: ListPlan,
        inner: Callable[..., Any],
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        if not self._counting:
            return inner(*args, **kwargs)
        self.calls[key] += 1
        if key[2] == 0:
            hidden = blocks.binding.hidden.get(args, kwargs)
            self.shapes.setdefault(key[:2], []).append(hidden.shape)
        return inner(*args, **kwargs)
