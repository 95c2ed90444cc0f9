"""Block lists that follow another one: one decision a forward for all of them.

The list that others follow decides with its first F blocks. Those that follow it run none of their
own, and the last B blocks count once, at the end of the last list.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from cachedit_yaml.compiler.settings import Layers
from cachedit_yaml.language.spec import BlockList


def leaders(declared: Mapping[str, BlockList], there: Collection[str]) -> dict[str, str | None]:
    """Which list decides for which.

    Args:
        declared: the lists of one layout.
        there: those of them that the transformer has.

    Returns:
        By path, the list that decides for it: the first one of the chain that is there. None for
        those that decide themselves.
    """
    found: dict[str, str | None] = {}
    for path in there:
        leader, chain = None, [path]
        while (name := declared[chain[-1]].follows) in declared and name not in chain:
            assert name is not None
            chain.append(name)
            leader = name if name in there else leader
        found[path] = leader
    return found


def grouped(layers: Mapping[str, Layers], leader_of: Mapping[str, str | None]) -> dict[str, Layers]:
    """The settings of lists, as those that they follow change them.

    DBPrune decides for each block, so that with it no list decides for another.

    Args:
        layers: each list's own, in the order of the lists.
        leader_of: as :func:`leaders` gives it.
    """
    leader_of = {
        path: leader if leader is not None and not _prunes(layers[leader]) else None
        for path, leader in leader_of.items()
    }
    last = {leader_of[path] or path: path for path in layers}
    found = {}
    for path, own in layers.items():
        leader = leader_of[path]
        end = last[leader or path]
        found[path] = replace(
            own,
            follows=leader,
            leader=None if leader is None else layers[leader],
            end=None if end == path else end,
        )
    return found


def _prunes(layers: Layers) -> bool:
    return any(resolved.prune for resolved in layers.cases())
