"""A draft tried on the calls that were seen, while nobody else runs its models."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch

import cachedit_yaml
from cachedit_yaml.compiler.plan import Plan
from cachedit_yaml.drafting.calls import LastCall
from cachedit_yaml.drafting.watch import Watch
from cachedit_yaml.errors import DraftError

#: Steps of a trial.
_STEPS: Final = 4


@contextmanager
def alone(modules: Sequence[torch.nn.Module], watch: Watch) -> Iterator[None]:
    """No other thread runs these models: those that want to wait, those that do have left.

    Else its generation would take part in what is tried, hits that are made to happen among it.

    Args:
        modules: the models; one that is compiled as a whole is left alone.
        watch: knows who is in a forward of them.
    """
    lock = threading.RLock()

    def wait(*_: Any) -> None:
        with lock:
            pass

    with lock:
        plain = [item for item in modules if item._compiled_call_impl is None]
        hooks = [item.register_forward_pre_hook(wait) for item in dict.fromkeys(plain)]
        try:
            watch.wait_for_others()
            yield
        finally:
            for hook in hooks:
                hook.remove()


def prove(plan: Plan, data: Mapping[str, Any], watch: Watch, *, native: bool) -> None:
    """Try each transformer on the last call of it, four times a generation.

    Args:
        plan: of the draft.
        data: the draft.
        watch: holds the last call of each module.
        native: cache-dit's own execution was asked for.

    Raises:
        DraftError: something does not hold.
    """
    for item in plan.transformers:
        module = item.module
        seen = watch.last["" if plan.pipeline is None else item.path]

        def call(seen: LastCall = seen, module: Any = module, name: str = item.timestep) -> Any:
            return [module(*args, **kwargs) for args, kwargs in seen.steps(name, _STEPS)]

        declared = {**data["transformers"][item.path]}
        declared.pop("scheduler", None)
        of_one = {"schema": 1, "transformers": {item.path: declared}}
        proof = cachedit_yaml.check(module, of_one, call, steps=_STEPS, freed=False)
        wrong = proof.failed if native else proof.broken
        if wrong:
            said = "; ".join(f"{claim.name}: {claim.detail}" for claim in wrong)
            raise DraftError(f"{item.path}: what it shows does not hold: {said}")
