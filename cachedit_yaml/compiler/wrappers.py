"""Modules that stand around a transformer: torch.compile, PEFT, and those that divide the work."""

from __future__ import annotations

from typing import Any, Final, NamedTuple


class _Wrapper(NamedTuple):
    """One kind.

    Attributes:
        by: what wraps, for people.
        inside: how to get at what is inside of it; empty where nothing is.
        advice: what to do. ``{}`` is the module, ``{inside}`` the one inside of it.
    """

    by: str
    inside: str
    advice: str


_TAKE_OUT: Final = "cache the module inside, with {} = {inside}"
#: By the names of classes, so that nothing has to be imported.
_WRAPPERS: Final = {
    "OptimizedModule": _Wrapper(
        "torch.compile",
        "_orig_mod",
        "compiled as a whole, no block of it can be skipped; take it out, with {} = {inside}, "
        "and compile its blocks instead: compile_repeated_blocks()",
    ),
    "PeftModel": _Wrapper(
        "PEFT", "get_base_model()", _TAKE_OUT + ", which has the adapter's layers, too"
    ),
    "DistributedDataParallel": _Wrapper("DistributedDataParallel (DDP)", "module", _TAKE_OUT),
    "DataParallel": _Wrapper("DataParallel", "module", _TAKE_OUT),
    "DeepSpeedEngine": _Wrapper("DeepSpeed", "module", _TAKE_OUT),
    "AveragedModel": _Wrapper("AveragedModel (EMA)", "module", _TAKE_OUT),
    "FullyShardedDataParallel": _Wrapper(
        "FullyShardedDataParallel (FSDP)",
        "module",
        "enable caching before it is wrapped, or shard it with fully_shard, which keeps its class",
    ),
    "ScriptModule": _Wrapper(
        "TorchScript", "", "no block of its graph can be skipped; load the model's own class"
    ),
    "GraphModule": _Wrapper(
        "torch.fx", "", "no block of its graph can be skipped; load the model's own class"
    ),
}


def explain_wrapper(module: Any, where: str) -> str | None:
    """Say that a module is a wrapper, and what to do; None where it is none that is known.

    Args:
        module: what stands where a transformer is expected.
        where: how the caller gets at it: ``pipeline.transformer``.
    """
    wrappers, inner = _look_inside(module)
    if not wrappers:
        return None
    names = " and ".join(wrapper.by for wrapper in wrappers)
    inside = "".join(f".{wrapper.inside}" for wrapper in wrappers if wrapper.inside)
    advice = wrappers[0].advice.format(where, inside=where + inside)
    return f"{where} is a {type(inner).__name__} wrapped by {names}: {advice}"


def unwrap(module: Any) -> Any:
    """The module inside of all wrappers."""
    return _look_inside(module)[1]


def see_through(module: Any) -> Any:
    """The module inside of wrappers that do no more than call it; else the module itself.

    Blocks of it can be skipped: it is hooked in place of the wrapper.
    """
    wrappers, inner = _look_inside(module)
    harmless = all(wrapper.advice.startswith(_TAKE_OUT) for wrapper in wrappers)
    # Several devices get copies, made anew for each forward.
    copies = type(module).__name__ == "DataParallel" and len(module.device_ids) > 1
    return inner if harmless and not copies else module


def _look_inside(module: Any) -> tuple[list[_Wrapper], Any]:
    """The wrappers around a module, the outermost first, and the module."""
    wrappers: list[_Wrapper] = []
    while True:
        names = [cls.__name__ for cls in type(module).__mro__]
        wrapper = next((_WRAPPERS[name] for name in names if name in _WRAPPERS), None)
        if wrapper is None:
            return wrappers, module
        wrappers.append(wrapper)
        if not wrapper.inside:
            return wrappers, module
        inner = getattr(module, wrapper.inside.removesuffix("()"))
        module = inner() if wrapper.inside.endswith("()") else inner
