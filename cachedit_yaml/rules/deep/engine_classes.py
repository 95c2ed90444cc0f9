"""``--deep`` for an engine that is not imported: an adapter against the sources of its classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial

from cachedit_yaml.compiler.groups import leaders
from cachedit_yaml.compiler.loops import loops_after
from cachedit_yaml.compiler.returns import contradicts as contradicts_block
from cachedit_yaml.compiler.returns import names_returned
from cachedit_yaml.compiler.signature import PATTERNS, bind_parameters
from cachedit_yaml.compiler.source import parameters_in
from cachedit_yaml.engines.protocol import Engine
from cachedit_yaml.language.patterns import fits_one
from cachedit_yaml.language.spec import AdapterSpec, BlockList, Transformer
from cachedit_yaml.rules.checks.context import Context
from cachedit_yaml.rules.deep.models import classes_named
from cachedit_yaml.rules.deep.unpacking import contradicts as contradicts_loop
from cachedit_yaml.rules.sources.code import Class
from cachedit_yaml.rules.sources.packages import Code
from cachedit_yaml.rules.sources.reader import Reader
from cachedit_yaml.rules.sources.values import (
    NONE,
    UNKNOWN,
    Instance,
    Items,
    Reference,
    Value,
    Values,
)
from cachedit_yaml.yaml.diagnostics import Diagnostic, KeyPath, one_of, or_near
from cachedit_yaml.yaml.document import Document


def check_engine(
    spec: AdapterSpec | None, document: Document, engine: Engine, code: Code
) -> list[Diagnostic]:
    """Check an adapter against the classes of an engine, by what their sources say.

    What cannot be read is not claimed; a hint names it.

    Args:
        spec: the adapter as the engine sees it.
        document: the adapter together with what it extends, as the engine sees it.
        engine: the engine.
        code: where its sources are.
    """
    if spec is None or spec.refuse is not None:
        return []
    checker = _Checker(spec, document, engine, code)
    checker.run()
    return list(dict.fromkeys(checker.context.diagnostics))


@lru_cache(maxsize=8)
def _reader(code: Code, engine: Engine) -> Reader:
    """What was read for one adapter need not be read again for another."""
    return Reader(engine.list_makers)


class _Checker:
    def __init__(self, spec: AdapterSpec, document: Document, engine: Engine, code: Code) -> None:
        self.spec = spec
        self.engine = engine
        self.code = code
        self.reader = _reader(code, engine)
        self.context = Context(document.data or {}, document)
        self.unread: dict[str, KeyPath] = {}
        self.pipelines: dict[KeyPath, list[Class]] = {}

    def run(self) -> None:
        for index, name in enumerate(self.spec.pipelines):
            if "*" not in name:
                here: KeyPath = ("pipelines", index)
                self.pipelines[here] = self.find(name, here)
        for path, declared in self.spec.transformers.items():
            held = self.parts(path, declared)
            if held is None:
                continue  # Of another class, so nothing else would fit.
            for candidates in self.classes(path, declared, held):
                self.first_that_fits(partial(self.layouts, path, declared), candidates)
        if self.unread:
            names = list(self.unread)
            shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if names[4:] else "")
            self.context.report(
                "not-checked", f"{self.engine.title}: not looked at: {shown}",
                self.unread[names[0]], hint="its sources do not say it",
            )  # fmt: skip

    def find(self, name: str, where: KeyPath) -> list[Class]:
        """The engine's classes of a name; noted if there is none."""
        found = self.code.classes(self.engine.packages[0], self.engine.class_sources, name)
        if not found:
            self.unread.setdefault(name, where)
        return found

    # --- pipelines ---

    def parts(self, path: str, declared: Transformer) -> dict[str, list[Class]] | None:
        """Whether the pipelines have such a transformer; its classes, None if they are others."""
        here: KeyPath = ("transformers", path)
        wrong = False
        held: dict[str, list[Class]] = {}
        for where, candidates in self.pipelines.items():
            found = [self.engine.part(self.reader, item, path) for item in candidates]
            if not found or any(UNKNOWN in values for values in found):
                continue
            name = f"{self.engine.title}'s {candidates[0].name}"
            related = ("the pipeline", where)
            if not any(found):
                if not declared.optional:
                    self.context.report(
                        "missing-attribute", f"{name} has no {path!r}"
                        f"{self.near(candidates[0], path)}", here, key=True, related=related,
                    )  # fmt: skip
                continue
            values = frozenset[Value]().union(*found)
            classes = [item.cls for item in values if isinstance(item, Instance)]
            allowed = declared.transformer_class
            if allowed and classes and not any(fits_one(allowed, x.names) for x in classes):
                wrong = True
                self.context.report(
                    "wrong-class", f"{name} has {one_of(sorted({x.name for x in classes}))} "
                    f"there, and the adapter is for {one_of(list(allowed))}", (*here, "class"),
                    key=True, related=related,
                )  # fmt: skip
            for cls in classes:
                held.setdefault(cls.name, []).append(cls)
        return None if wrong else held

    def near(self, cls: Class, path: str) -> str:
        """The end of a sentence that says where a path broke off."""
        names = self.engine.parts(self.reader, cls) if "." not in path else ()
        return or_near(path, names)

    def classes(
        self, path: str, declared: Transformer, held: Mapping[str, list[Class]]
    ) -> list[list[Class]]:
        """The classes of a transformer, by name: those declared, else those of the pipelines."""
        named = classes_named(path, declared)
        if not named:
            return list(held.values())
        return [
            held.get(name) or self.find(name, where)
            for name, where in named.items() if "*" not in name
        ]  # fmt: skip

    # --- transformers ---

    def layouts(self, path: str, declared: Transformer, cls: Class) -> None:
        """Each list of each layout."""
        base: KeyPath = ("transformers", path)
        for index, variant in enumerate(declared.variants or ()):
            if variant.transformer_class and not fits_one(variant.transformer_class, cls.names):
                continue
            for name in variant.blocks:
                self.block_list(
                    cls, name, variant.blocks, (*base, "variants", index, "blocks", name)
                )
            if variant.when is None:
                return
        for name in declared.blocks or ():
            self.block_list(cls, name, declared.blocks or {}, (*base, "blocks", name))

    def first_that_fits(self, check: Callable[[Class], None], candidates: Sequence[Class]) -> None:
        """Of several classes one that fits is enough; without one, what the first lacks is said."""
        before, said = list(self.context.diagnostics), None
        for cls in candidates:
            self.context.diagnostics = list(before)
            check(cls)
            if self.context.diagnostics == before:
                return
            said = said or self.context.diagnostics
        self.context.diagnostics = said or before

    def block_list(
        self, cls: Class, name: str, layout: Mapping[str, BlockList], here: KeyPath
    ) -> None:
        """One block list of a transformer."""
        declared = layout[name]
        where = f"{self.engine.title}'s {cls.name}"
        values = self.reader.follow(cls, name) - {NONE}
        if UNKNOWN in values:
            self.unread.setdefault(f"{cls.name}.{name}", here)
            return
        lists = [item for item in values if isinstance(item, Items) and item.modules]
        if not values:
            if not declared.optional:
                self.context.report(
                    "missing-attribute", f"{where} has no {name!r}{self.near_list(cls, name)}",
                    here, key=True,
                )  # fmt: skip
            return
        if not lists:
            self.context.report(
                "not-a-block-list", f"{where}: {name!r} is a {_kind(values)}", here, key=True,
                expected="a torch.nn.ModuleList",
            )  # fmt: skip
            return
        blocks = frozenset[Value]().union(*(item.values for item in lists))
        classes = [item.cls for item in blocks if isinstance(item, Instance)]
        if len(classes) != len(blocks) or not classes:
            self.unread.setdefault(f"the blocks of {cls.name}.{name}", here)
            return
        self.first_that_fits(partial(self.block, cls, name, declared, here), classes)
        forward = cls.method("forward")
        leader = leaders(layout, layout)[name]
        if leader is not None and forward and loops_after(forward.node, leader, name):
            self.context.report(
                "follows-nothing", f"{where} runs {leader!r} after {name!r}, which follows it",
                (*here, "follows"), hint=f"let {leader!r} follow {name!r} instead",
            )  # fmt: skip

    def near_list(self, cls: Class, name: str) -> str:
        """What to write instead of a list that is not there."""
        if "." in name:
            return ""
        lists = self.reader.block_lists(cls)
        near = or_near(name, lists)
        return near or (f"; it has the block lists {', '.join(lists)}" if lists else "")

    def block(
        self, cls: Class, name: str, declared: BlockList, here: KeyPath, block: Class
    ) -> None:
        """What a block takes and returns, and what the loop over it makes of that."""
        where = f"{self.engine.title}'s {cls.name}.{name}"
        if declared.block_class is not None and not fits_one(declared.block_class, block.names):
            self.context.report(
                "wrong-class", f"{where} has blocks of {block.name}", (*here, "class"), key=True
            )
            return
        forward = block.method("forward")
        if forward is None:
            self.unread.setdefault(f"{block.name}.forward", here)
            return
        pattern = PATTERNS[declared.pattern]
        binding = bind_parameters(
            parameters_in(forward.node), pattern, declared.roles, f"{where}: {block.name}"
        )
        if isinstance(binding, str):
            self.context.report("wrong-pattern", binding, here, key=True)
            return
        loop = cls.method("forward")
        problem = loop and contradicts_loop(loop.node, name, pattern, binding)
        if problem:
            self.context.report("return-order", f"{where}: {problem}", here, key=True)
            return
        problem = contradicts_block(
            names_returned(forward.node), pattern, binding, f"{where}: {block.name}"
        )
        if problem:
            self.context.report("wrong-pattern", problem, here, key=True)


def _kind(values: Values) -> str:
    """What the values are, in words."""
    names = set()
    for item in values:
        if isinstance(item, Instance):
            names.add(item.cls.name)
        elif isinstance(item, Items):
            names.add("list")
        elif isinstance(item, Reference):
            names.add("class or function")
        else:
            names.add(item.name.rpartition(".")[2])
    return one_of(sorted(names))
