"""Which modules SGLang's pipelines load, read from their sources."""

from __future__ import annotations

import ast
import functools

from cachedit_yaml.rules.sources.code import Class
from cachedit_yaml.rules.sources.values import UNKNOWN, Values

#: The lists of a pipeline class that name its modules.
_LISTS = ("_required_config_modules", "_extra_config_modules")
#: Its methods that take the name of one.
_METHODS = ("get_module", "add_module")
#: How its functions that enable a cache call what they get, whatever a pipeline calls it.
_GIVEN = frozenset({"transformer", "transformer_2"})


@functools.cache
def _modules_in(cls: Class) -> frozenset[str]:
    found: set[str] = set()
    for node in ast.walk(cls.node):
        if isinstance(node, ast.Call) and node.args:
            named = isinstance(node.func, ast.Attribute) and node.func.attr in _METHODS
            values = node.args[:1] if named else []
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            listed = any(ast.unparse(x).rpartition(".")[2] in _LISTS for x in targets)
            values = getattr(node.value, "elts", []) if listed else []
        else:
            continue
        found |= {
            x.value for x in values if isinstance(x, ast.Constant) and isinstance(x.value, str)
        }
    return frozenset(found)


def modules_of(pipeline: Class) -> frozenset[str]:
    """The names of the modules that a pipeline class says it has."""
    return frozenset().union(*map(_modules_in, pipeline.mro))


def part(pipeline: Class, path: str) -> Values:
    """The class of a module stands in the checkpoint, so all that can be told is its absence."""
    modules = modules_of(pipeline)
    absent = bool(modules) and path.partition(".")[0] not in modules | _GIVEN
    return frozenset() if absent else frozenset({UNKNOWN})
