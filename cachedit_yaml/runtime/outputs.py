"""Blocks that return a mapping, a dataclass or a longer tuple: which entry is which.

What else an output holds (a loss, the statistics of a router) is passed on from the last computed
step, in an output of the same kind.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any, Final

import torch

from cachedit_yaml.errors import CacheRuntimeError
from cachedit_yaml.language.spec import Returns
from cachedit_yaml.yaml.diagnostics import nearest

_MISSING: Final = object()


class Entries:
    """Takes the entries that an adapter names out of a block's outputs, and puts others in.

    Args:
        returns: keys, attributes or places, by what they hold.
        where: the block list, for messages.
    """

    def __init__(self, returns: Returns, where: str) -> None:
        self._hidden = returns.hidden_states
        self._encoder = returns.encoder_hidden_states
        self._where = where

    def take(self, output: Any) -> tuple[torch.Tensor, Any]:
        """The hidden states, and the encoder hidden states or None.

        Raises:
            CacheRuntimeError: the output has no such entry, or it is no tensor.
        """
        hidden = self._entry(output, self._hidden)
        if not isinstance(hidden, torch.Tensor):
            raise CacheRuntimeError(
                f"{self._where}: a block returned {describe(output)}, whose {self._hidden!r} is no "
                "tensor; correct `returns` in the adapter"
            )
        return hidden, None if self._encoder is None else self._entry(output, self._encoder)

    def rest(self, output: Any) -> Any:
        """A copy of an output without what was taken; its tensors are copied."""
        kept = _changed(output, dict.fromkeys(self._names))
        return _copied(kept)

    def put(self, rest: Any, hidden: torch.Tensor, encoder: Any) -> Any:
        """An output of the same kind: the rest of an earlier one, with these entries."""
        values = {self._hidden: hidden}
        if self._encoder is not None:
            values[self._encoder] = encoder
        return _changed(_copied(rest), values)

    @property
    def _names(self) -> list[str | int]:
        return [name for name in (self._hidden, self._encoder) if name is not None]

    def _entry(self, output: Any, name: str | int) -> Any:
        found = _get(output, name)
        if found is _MISSING:
            near = nearest(str(name), list(entries(output)), limit=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise CacheRuntimeError(
                f"{self._where}: a block returned {describe(output)}, which has no {name!r}{hint} "
                "Correct `returns` in the adapter"
            )
        return found


def entries(output: Any) -> Mapping[str, Any]:
    """What an output holds by name: keys, or the fields of an object."""
    if isinstance(output, Mapping):
        return {str(key): value for key, value in output.items()}
    if isinstance(output, (tuple, list)):
        names = getattr(output, "_fields", [str(index) for index in range(len(output))])
        return dict(zip(names, output, strict=True))
    fields = dataclasses.fields(output) if dataclasses.is_dataclass(output) else ()
    names = dict.fromkeys([*(field.name for field in fields), *getattr(output, "__dict__", ())])
    shown = (name for name in names if not name.startswith("_") and hasattr(output, name))
    return {name: getattr(output, name) for name in shown}


def describe(output: Any) -> str:
    """An output for messages: its type, and its entries with their shapes."""
    if isinstance(output, torch.Tensor):
        return f"a tensor {[*output.shape]}"
    shown = ", ".join(
        f"{name}: {[*value.shape] if isinstance(value, torch.Tensor) else type(value).__name__}"
        for name, value in list(entries(output).items())[:8]
    )
    return f"{type(output).__name__}({shown})"


def _get(output: Any, name: str | int) -> Any:
    if isinstance(name, int):
        places = isinstance(output, (tuple, list)) and name < len(output)
        return output[name] if places else _MISSING
    if isinstance(output, Mapping):
        return output.get(name, _MISSING)
    return getattr(output, name, _MISSING)


def _changed(output: Any, values: Mapping[str | int, Any]) -> Any:
    """A copy of an output with other entries."""
    if isinstance(output, tuple) and hasattr(output, "_replace"):
        fields: Any = getattr(output, "_fields", ())
        named = {fields[key] if isinstance(key, int) else key: v for key, v in values.items()}
        return output._replace(**named)
    if isinstance(output, (tuple, list)):
        places = list(output)
        for key, value in values.items():
            places[int(key)] = value
        return type(output)(places)
    made = copy.copy(output)
    for key, value in values.items():
        if isinstance(made, Mapping):
            made[key] = value  # type: ignore[index]
        else:
            object.__setattr__(made, str(key), value)
    return made


def _copied(output: Any) -> Any:
    """A copy whose tensors are copies: the loop may write over what it was given."""
    if isinstance(output, torch.Tensor):
        return output.detach().clone()
    held: dict[str | int, Any]
    if isinstance(output, (tuple, list)) and not hasattr(output, "_fields"):
        held = dict(enumerate(output))
    else:
        held = dict(entries(output).items())
    changed = {
        key: _copied(value)
        for key, value in held.items()
        if isinstance(value, (torch.Tensor, dict, list, tuple))
    }
    return _changed(output, changed) if changed else output
