"""How much a probe may ask for.

A probe is data from a stranger. What it asks for is counted before it is made, against one budget
for all parts of a small model and all inputs of a call; what nobody can count before, memory and
time, is limited by the system (:mod:`cachedit_yaml.probe.confine`). Only whoever runs `check` can
raise a limit.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from torch.nn.modules import module as registration

from cachedit_yaml.probe.classes import ProbeError

if TYPE_CHECKING:
    from cachedit_yaml.probe.recipe import Recipe

#: What of a call's arguments counts its pixels together.
_PIXELS: Final = re.compile(r"(.*_)?(height|width)|num_.*(frames|_per_prompt)")
#: What stands for a tensor or picture; its elements are counted when it is made.
COUNTED: Final = frozenset(
    {"randn", "rand", "randint", "ones", "mask", "full", "tensor", "count", "picture", "rope"}
)
_CODE: Final = "trust_remote_code"
_STEPS: Final = re.compile(r"(?!.*timesteps$).*steps|sigmas|timesteps")


@dataclasses.dataclass(frozen=True)
class Limits:
    """The limits, each far beyond any small model.

    Attributes:
        makes: small models of an adapter.
        cases: calls of an adapter's small models.
        number: the largest number in a setting.
        layers: modules of a small model, those inside of others included.
        parameters: of all parts of a small model.
        steps: of a call.
        size: the largest number among the arguments of a call.
        pixels: height times width times frames times pictures of a call.
        elements: of all tensors, pictures and lists that a call is given.
        memory: MiB that a small model may need.
        seconds: of processor time that a small model may need.
    """

    makes: int = 64
    cases: int = 256
    number: int = 2**20
    layers: int = 2**12
    parameters: int = 2**26
    steps: int = 64
    size: int = 2**14
    pixels: int = 2**23
    elements: int = 2**24
    memory: int = 2048
    seconds: int = 300


class LimitError(ProbeError):
    """A probe asks for more than a limit allows.

    Attributes:
        name: of the limit.
        why: what breaks it.
    """

    def __init__(self, name: str, why: str) -> None:
        self.name = name
        self.why = why
        super().__init__(f"limit {name}: {why}")


class Budget:
    """What is left of the limits for one small model."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._spent: Counter[str] = Counter()

    def spend(self, name: str, amount: int) -> None:
        """Count something before it is made.

        Raises:
            LimitError: there is less left.
            ProbeError: it is less than nothing, which would give room to others.
        """
        if amount < 0:
            raise ProbeError(f"{name}: {amount:,} of them cannot be made")
        self._spent[name] += amount
        self.bound(name, self._spent[name], f"{self._spent[name]:,} in all")

    def bound(self, name: str, amount: float, what: str) -> None:
        """Refuse what is beyond a limit by itself.

        Raises:
            LimitError: it is.
        """
        most = getattr(self.limits, name)
        if amount > most:
            raise LimitError(name, f"{what}, and a probe may ask for {most:,}")


_CURRENT: ContextVar[Budget] = ContextVar("_CURRENT")


@contextmanager
def spending(limits: Limits) -> Iterator[None]:
    """Give what is made inside one budget."""
    token = _CURRENT.set(Budget(limits))
    try:
        yield
    finally:
        _CURRENT.reset(token)


def budget() -> Budget:
    """The budget of what is being made; one of its own where nobody has given one."""
    return _CURRENT.get(None) or Budget(Limits())


@contextmanager
def counted() -> Iterator[None]:
    """Count the modules and parameters that are made inside, before they are filled.

    Raises:
        LimitError: there are too many.
    """
    left = budget()

    def module(_: Any, __: str, child: Any) -> None:
        left.spend("layers", int(child is not None))

    def parameter(_: Any, __: str, made: Any) -> None:
        left.spend("parameters", made.numel() if made is not None else 0)

    hooks = [
        registration.register_module_module_registration_hook(module),
        registration.register_module_parameter_registration_hook(parameter),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def audit(recipe: Recipe) -> None:
    """Count what a recipe asks for in plain numbers.

    Raises:
        LimitError: it asks for too much.
        ProbeError: it asks for code of a model's repository.
    """
    left = budget()
    if _asks_for_code([vars(part) for part in recipe.parts.values() if part]) or _asks_for_code(
        vars(recipe)
    ):
        raise ProbeError(f"{_CODE}: no code of a model's repository runs here")
    for name, part in recipe.parts.items():
        if part is not None:
            bound_numbers(left, "number", part.config, f"parts.{name}")
            bound_numbers(left, "number", part.extra, f"parts.{name}")
    for where in ("config", "attributes", "files"):
        bound_numbers(left, "number", getattr(recipe, where), where)
    for case, changes in recipe.cases.items():
        call = {**recipe.inputs, **changes}
        bound_numbers(left, "size", call, f"case {case}")
        pixels = 1
        for name, value in call.items():
            if isinstance(value, int) and value > 0 and _PIXELS.fullmatch(name):
                pixels *= value
        left.bound("pixels", pixels, f"case {case}: {pixels:,} pixels")


def _asks_for_code(value: Any) -> bool:
    if isinstance(value, Mapping):
        return _CODE in value or any(map(_asks_for_code, value.values()))
    return isinstance(value, (list, tuple)) and any(map(_asks_for_code, value))


def bound_numbers(left: Budget, limit: str, value: Any, where: str) -> None:
    """Bound the numbers in plain data."""
    if isinstance(value, (int, float)):
        left.bound(limit, abs(value), f"{where}: {value}")
    elif isinstance(value, Mapping) and not (limit == "size" and COUNTED & value.keys()):
        for name, item in value.items():
            here = f"{where}.{name}"
            if limit == "size" and _STEPS.fullmatch(str(name)):
                count = len(item) if isinstance(item, list) else item
                if isinstance(count, (int, float)):
                    left.bound("steps", count, f"{here}: {count}")
            bound_numbers(left, limit, item, here)
    elif isinstance(value, (list, tuple)):
        for item in value:
            bound_numbers(left, limit, item, where)
