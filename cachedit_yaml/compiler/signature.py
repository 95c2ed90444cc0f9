"""Where a block's call carries hidden_states, encoder_hidden_states or another state.

A block may be called with positional or keyword arguments, and its arguments may have any names:
both are settled once, when caching is enabled, from the signature of its forward.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from cachedit_yaml.language.spec import Roles
from cachedit_yaml.yaml.diagnostics import nearest


@dataclass(frozen=True)
class Pattern:
    """A forward pattern: what a block takes and returns.

    Attributes:
        name: ``Pattern_0`` to ``Pattern_5``, as cache-dit calls it.
        takes_encoder: the block takes encoder_hidden_states.
        returns_encoder: the block returns encoder_hidden_states.
        hidden_first: hidden_states come first in what it returns.
    """

    name: str
    takes_encoder: bool
    returns_encoder: bool
    hidden_first: bool


PATTERNS: Mapping[str, Pattern] = {
    pattern.name: pattern
    for pattern in (
        Pattern("Pattern_0", True, True, True),
        Pattern("Pattern_1", True, True, False),
        Pattern("Pattern_2", True, False, True),
        Pattern("Pattern_3", False, False, True),
        Pattern("Pattern_4", False, True, True),
        Pattern("Pattern_5", False, True, False),
    )
}


@dataclass(frozen=True)
class Argument:
    """One argument of a block's forward: its name and, if it can be positional, its place."""

    name: str
    place: int

    def get(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Take the argument from a call; None where it is left out."""
        if self.place < len(args):
            return args[self.place]
        return kwargs.get(self.name)


@dataclass(frozen=True)
class Binding:
    """Where the hidden states and the encoder hidden states (or another state) are.

    Attributes:
        hidden: the hidden states.
        encoder: the encoder hidden states, or the state in their place.
        passes: it is a state: nothing is added to it, also where it is a tensor.
    """

    hidden: Argument
    encoder: Argument | None
    passes: bool = False


def bind_all(
    blocks: Sequence[torch.nn.Module], pattern: Pattern, roles: Roles | None, where: str
) -> Binding | str:
    """Find the arguments of the blocks of one list, which may be of several classes.

    Returns:
        The binding that fits all, or one sentence that says what does not fit.
    """
    found: dict[type, Binding] = {}
    for index, block in enumerate(blocks):
        if type(block) not in found:
            binding = bind(plain_forward(block), pattern, roles, f"{where}[{index}]")
            if isinstance(binding, str):
                return binding
            found[type(block)] = binding
    bindings = set(found.values())
    if len(bindings) > 1:
        names = ", ".join(cls.__name__ for cls in found)
        return f"{where}: its blocks ({names}) take their arguments in another order"
    return bindings.pop()


def parameters_of(forward: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The parameters of a bound forward, read once for each class.

    Raises:
        TypeError, ValueError: it has none that can be read.
    """
    function = getattr(forward, "__func__", None)
    if function is None:
        return inspect.signature(forward).parameters
    return _parameters_of_method(function)


@functools.lru_cache(maxsize=1024)
def _parameters_of_method(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    _, *found = inspect.signature(function).parameters.items()
    return dict(found)


def plain_forward(module: torch.nn.Module) -> Callable[..., Any]:
    """The forward whose signature counts: a wrapper that hides it stands before the class's own.

    Wrappers take anything, with or without the module in front (cache-dit's context parallelism).
    """
    given: Callable[..., Any] = module.forward
    if "forward" not in vars(module):
        return given  # nobody has wrapped it
    plain: Callable[..., Any] = type(module).forward.__get__(module)
    try:
        found = inspect.signature(given).parameters.values()
        of_class = inspect.signature(plain).parameters
    except (TypeError, ValueError):  # written in C
        return given
    if all(item.kind != item.VAR_POSITIONAL for item in found):
        return given
    open_ended = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    shared = [x for x in found if x.kind not in open_ended and x.name in of_class]
    return given if shared else plain


def bind(
    forward: Callable[..., Any], pattern: Pattern, roles: Roles | None, where: str
) -> Binding | str:
    """Find the arguments of a block's forward that the pattern speaks of.

    Args:
        forward: the block's forward, bound.
        pattern: the declared pattern.
        roles: names of the arguments where they are not cache-dit's usual ones.
        where: the block, for messages.

    Returns:
        The binding, or one sentence that says what does not fit.
    """
    return bind_parameters(parameters_of(forward), pattern, roles, where)


def bind_parameters(
    parameters: Mapping[str, inspect.Parameter], pattern: Pattern, roles: Roles | None, where: str
) -> Binding | str:
    """The same as :func:`bind`, by the parameters of a forward without ``self``."""
    names = [
        name
        for name, parameter in parameters.items()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    keywords = [
        name for name, parameter in parameters.items() if parameter.kind == parameter.KEYWORD_ONLY
    ]
    open_ended = any(
        parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        for parameter in parameters.values()
    )

    hidden_name = (roles.hidden_states if roles else None) or "hidden_states"

    def find(name: str, role: str, fallback: int) -> Argument | str:
        if name in names:
            return Argument(name, names.index(name))
        if name in keywords:
            return Argument(name, 1_000_000)
        if open_ended and fallback >= len(names):
            return Argument(name, fallback)
        have = [*names, *keywords]
        near = nearest(name, [item for item in have if item != hidden_name or not fallback])
        meant = near[0] if near else (have[fallback] if fallback < len(have) else None)
        advice = f"; if {meant!r} is it, write roles: {{{role}: {meant}}}" if meant else ""
        return (
            f"{where}: forward has no argument {name!r} ({pattern.name} needs it); its arguments "
            f"are {', '.join(have) or 'none'}{advice}"
        )

    hidden = find(hidden_name, "hidden_states", 0)
    encoder: Argument | str | None = None
    state = roles.state if roles else None
    if pattern.takes_encoder:
        encoder_name = (
            state or (roles.encoder_hidden_states if roles else None) or "encoder_hidden_states"
        )
        encoder = find(encoder_name, "state" if state else "encoder_hidden_states", 1)
    wrong = [item for item in (hidden, encoder) if isinstance(item, str)]
    if isinstance(hidden, str) or isinstance(encoder, str):
        return "; and ".join([wrong[0], *(text.removeprefix(f"{where}: ") for text in wrong[1:])])
    return Binding(hidden, encoder, passes=encoder is not None and state is not None)
