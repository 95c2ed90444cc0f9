"""Lists that follow another one: which, and what has no effect beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from cachedit_yaml.language.cache_spec import OWN
from cachedit_yaml.rules.checks.context import BlockListAt, Context, mapping, pattern_of
from cachedit_yaml.yaml.diagnostics import KeyPath, nearest, one_of

#: Patterns whose blocks return encoder hidden states that none of them takes.
_MAKE_ENCODER: Final = ("Pattern_4", "Pattern_5")
#: Beside settings of a list, and none of them.
_REMARKS: Final = ("description", "measured", "lists", "max_steps")


def check(context: Context) -> None:
    """What each list follows, and its own settings that the other list's take the place of."""
    layouts: dict[KeyPath, dict[str, BlockListAt]] = {}
    for block in context.lists():
        layouts.setdefault(block.path[:-1], {})[block.name] = block
    for blocks in layouts.values():
        for block in blocks.values():
            if followed(block) is not None:
                _followed(context, block, blocks)
        _ends(context, blocks)


def followed(block: BlockListAt) -> str | None:
    """The list that a list follows."""
    name = mapping(block.content).get("follows")
    return name if isinstance(name, str) else None


def _followed(context: Context, block: BlockListAt, blocks: Mapping[str, BlockListAt]) -> None:
    path: KeyPath = (*block.path, "follows")
    name, pattern = followed(block), pattern_of(block.content)
    before = list(blocks)[: list(blocks).index(block.name)]
    if name in before and pattern in _MAKE_ENCODER:
        context.report(
            "unusable",
            f"the first block of {pattern} makes the encoder hidden states, so it has to run",
            path,
            key=True,
            related=("the pattern", (*block.path, "pattern")),
            hint="remove it: this list decides itself",
        )
    elif name in before:
        for place, settings in _own(context, block):
            idle = [key for key in settings if key not in (*OWN, *_REMARKS)]
            if idle:
                shown = ", ".join(repr(key) for key in idle)
                context.report(
                    "ignored",
                    f"{shown} {'has' if len(idle) == 1 else 'have'} no effect in a list that "
                    f"follows another one, which decides for both",
                    (*place, idle[0]),
                    key=True,
                    related=("it follows", path),
                    hint=f"remove it, or set it for {name!r}",
                )
    elif name == block.name:
        context.report("follows-nothing", f"{name!r} follows itself", path, hint="remove it")
    elif name in blocks:
        chain = _chain(block.name, blocks)
        circle = chain[-1] == block.name
        if circle and block.name != min(chain, key=list(blocks).index):
            return  # said once
        context.report(
            "follows-nothing",
            f"{' follows '.join(chain)}, in a circle" if circle else
            f"{block.name!r} follows {name!r}, which is declared after it",
            path,
            related=("that list", blocks[str(name)].path),
            hint="let one of them decide" if circle else
            f"if the forward runs {name!r} first, declare it first",
        )  # fmt: skip
    else:
        context.report(
            "unknown-name",
            f"no block list beside this one is called {name!r}",
            path,
            expected=one_of(before) if before else None,
            near=nearest(str(name), before),
        )


def _chain(name: str, blocks: Mapping[str, BlockListAt]) -> list[str]:
    """What a list follows, what that follows, and so on, until one stands there twice."""
    chain = [name]
    while (found := followed(blocks[chain[-1]])) in blocks:
        assert found is not None
        chain.append(found)
        if found in chain[:-1]:
            break
    return chain


def _ends(context: Context, blocks: Mapping[str, BlockListAt]) -> None:
    """Last blocks that a list has of its own, and that count at the end of another one."""
    decides = {name: _chain(name, blocks)[-1] for name in blocks}
    last = {decides[name]: name for name in blocks}
    for name, block in blocks.items():
        end = last[decides[name]]
        for place, settings in _own(context, block):
            if end != name and "Bn_compute_blocks" in settings:
                context.report(
                    "ignored",
                    f"'Bn_compute_blocks' has no effect here: the last blocks are those of {end!r}",
                    (*place, "Bn_compute_blocks"),
                    key=True,
                    related=("the last list", blocks[end].path),
                    hint=f"remove it, or set it for {end!r}",
                )


def _own(context: Context, block: BlockListAt) -> Iterator[tuple[KeyPath, Mapping[str, Any]]]:
    """Settings for one list alone, with their paths."""
    yield (*block.path, "params"), mapping(mapping(block.content).get("params"))
    for profile, value in mapping(context.data.get("profiles")).items():
        for name, settings in mapping(mapping(value).get("lists")).items():
            if name in block.names:
                yield ("profiles", profile, "lists", name), mapping(settings)
