"""A static look at a transformer's forward: what its loops do besides calling the block.

cache-dit's native execution runs a loop's body once for all blocks, so everything in it but the
call is lost or done once. This says which arguments of forward bring such work in, so that native
execution can refuse the calls that it would get wrong. Nothing is executed.
"""

from __future__ import annotations

import ast
import copy
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import torch

from cachedit_yaml.compiler.source import Function, source_of

#: What holds statements that run one after the other.
_BODIES: Final = ("body", "orelse", "finalbody")


@dataclass(frozen=True)
class LoopReport:
    """What the source says about the loop over one block list.

    Attributes:
        found: the loop was found in the source of forward.
        always: work in the body that no argument of forward switches, as source text.
        arguments: arguments of forward that bring work into the body when they are given.
        keywords: keyword arguments that the block is called with.
    """

    found: bool
    always: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    keywords: frozenset[str] = field(default_factory=frozenset)


def inspect_loop(transformer: torch.nn.Module, list_path: str) -> LoopReport:
    """Report on the loop over ``list_path`` in the transformer's forward."""
    function = source_of(type(transformer).forward)
    if function is None:
        return LoopReport(found=False)
    parameters = {item.arg for item in (*function.args.args, *function.args.kwonlyargs)}
    parameters.discard("self")
    always: list[str] = []
    arguments: set[str] = set()
    keywords: set[str] = set()
    found = False
    for loop in _loops_over(function, list_path):
        block = _block_name(loop)
        if block is None:
            continue
        found = True
        bound = {
            node.id
            for node in ast.walk(loop)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        for statement in loop.body:
            if _is_constant(statement, bound):
                continue
            _look_at(statement, block, parameters, always, arguments, keywords)
        for call in _calls_in(loop, block):
            _look_at_arguments(call, _names(loop.target) - {block}, parameters, always, arguments)
    always += _reads_elsewhere(function, list_path)
    return LoopReport(found, tuple(always), tuple(sorted(arguments)), frozenset(keywords))


def runs_after(transformer: torch.nn.Module, one: str, other: str) -> bool:
    """Whether the source of forward loops over one list behind another one; False if unknown."""
    function = source_of(type(transformer).forward)
    return function is not None and loops_after(function, one, other)


def loops_after(function: Function, one: str, other: str) -> bool:
    """The same, of the definition of a forward."""
    first, second = (
        min((loop.lineno for loop in _loops_over(function, path)), default=None)
        for path in (one, other)
    )
    return first is not None and second is not None and first > second


def adjoining(transformer: torch.nn.Module, one: str, other: str) -> bool:
    """Whether forward loops over one list and at once over another, and calls both in one way."""
    function = source_of(type(transformer).forward)
    if function is None:
        return False
    first, second = (list(_loops_over(function, path)) for path in (one, other))
    bodies = [getattr(node, name, None) for node in ast.walk(function) for name in _BODIES]
    after = {
        id(statement): following
        for body in bodies
        if isinstance(body, list)
        for statement, following in itertools.pairwise(body)
    }
    return (
        bool(first)
        and [after.get(id(loop)) for loop in first] == second
        and all(_ways(a) == _ways(b) for a, b in zip(first, second, strict=True))
    )


def _ways(loop: ast.For) -> set[str]:
    """How a loop calls its block and takes what it returns, as source text."""
    block = _block_name(loop)
    if block is None:
        return set()
    loop = copy.deepcopy(loop)
    for node in ast.walk(loop):
        if isinstance(node, ast.Name) and node.id == block:
            node.id = "block"
    statements = [node for node in ast.walk(loop) if isinstance(node, ast.Assign)]
    return {ast.unparse(node) for node in statements if _calls_in(node, "block")}


def _loops_over(function: Function, list_path: str) -> Iterator[ast.For]:
    wanted = f"self.{list_path}"
    for node in ast.walk(function):
        if isinstance(node, ast.For) and any(
            isinstance(item, ast.Attribute) and ast.unparse(item) == wanted
            for item in ast.walk(node.iter)
        ):
            yield node


def _reads_elsewhere(function: ast.FunctionDef, list_path: str) -> list[str]:
    """Reads of the list outside its loops, which would meet cache-dit's one big block."""
    inside = {id(node) for loop in _loops_over(function, list_path) for node in ast.walk(loop)}
    wanted = f"self.{list_path}"
    comprehensions = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    return [
        ast.unparse(node)
        for node in ast.walk(function)
        if id(node) not in inside
        and (
            (isinstance(node, ast.Subscript) and ast.unparse(node.value) == wanted)
            or (
                isinstance(node, comprehensions)
                and any(wanted == ast.unparse(item.iter) for item in node.generators)
            )
        )
    ]


def _block_name(loop: ast.For) -> str | None:
    """The loop variable that holds the block: the one that the body calls or hands on."""
    names = [item.id for item in ast.walk(loop.target) if isinstance(item, ast.Name)]
    for name in reversed(names):
        if any(_calls_in(statement, name) for statement in loop.body):
            return name
    return None


def _calls(call: ast.Call, block: str) -> bool:
    """Whether a call runs the block, itself or through gradient checkpointing."""
    if isinstance(call.func, ast.Name) and call.func.id == block:
        return True
    first = call.args[0] if call.args else None
    if isinstance(first, ast.Attribute) and first.attr == "__call__":
        first = first.value
    checkpoint = "checkpoint" in ast.unparse(call.func)
    return checkpoint and isinstance(first, ast.Name) and first.id == block


def _is_constant(statement: ast.stmt, bound: set[str]) -> bool:
    """Whether a statement gives names the same value in every round: `temb = [shift, scale]`.

    Args:
        statement: of the loop's body.
        bound: names that the loop binds.
    """
    if not isinstance(statement, ast.Assign) or _names(statement.value) & bound:
        return False
    plain = (ast.Name, ast.Constant, ast.List, ast.Tuple, ast.expr_context)
    targets = all(isinstance(target, ast.Name) for target in statement.targets)
    return targets and all(isinstance(node, plain) for node in ast.walk(statement.value))


def _calls_in(node: ast.AST, block: str) -> list[ast.Call]:
    """The calls that run the block, itself or through gradient checkpointing."""
    return [item for item in ast.walk(node) if isinstance(item, ast.Call) and _calls(item, block)]


def _look_at_arguments(
    call: ast.Call,
    varying: set[str],
    parameters: set[str],
    always: list[str],
    arguments: set[str],
) -> None:
    """Arguments that differ from block to block: the loop's index, or what it picks."""
    if not isinstance(call.func, ast.Name):
        return  # gradient checkpointing
    for value in (*call.args, *(item.value for item in call.keywords)):
        if not _names(value) & varying:
            continue
        given = _names(value) & parameters
        if given:
            arguments |= given  # `kv_cache=kv_cache.get(i) if kv_cache is not None else None`
        else:
            always.append(ast.unparse(value))


def _look_at(
    statement: ast.stmt,
    block: str,
    parameters: set[str],
    always: list[str],
    arguments: set[str],
    keywords: set[str],
) -> None:
    calls = _calls_in(statement, block)
    for call in calls:
        if isinstance(call.func, ast.Name):
            keywords |= {item.arg for item in call.keywords if item.arg}
    if calls and isinstance(statement, ast.If):
        test = ast.unparse(statement.test)
        if block in _names(statement.test):
            # Which arguments it gets depends on its class, and natively it has another one.
            always.append(f"if {test}:")
        if "gradient_checkpointing" not in test:
            arguments |= _names(statement.test) & parameters
        for inner in (*statement.body, *statement.orelse):
            _look_at(inner, block, parameters, always, arguments, keywords)
        return
    if calls or isinstance(statement, (ast.Pass, ast.Continue)):
        return
    given = _names(statement) & parameters
    if isinstance(statement, ast.If):
        guards = _names(statement.test) & parameters
        if guards:
            arguments |= guards
            return
        if "gradient_checkpointing" in ast.unparse(statement.test):
            return
    if isinstance(statement, ast.Assign) and given and isinstance(statement.value, ast.IfExp):
        # `is_skip = True if skip_layers is not None and ... else False`
        arguments |= given
        return
    always.append(ast.unparse(statement).splitlines()[0])


def _names(node: ast.AST) -> set[str]:
    return {item.id for item in ast.walk(node) if isinstance(item, ast.Name)}
