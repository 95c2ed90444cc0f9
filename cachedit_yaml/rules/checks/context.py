"""What the rules share: the data, where it stands, and how a finding is reported.

The rules look at plain data, not at the dataclasses: they must know which keys were given, and
they must find what they can in a document that has other errors too. So everything is tested
before it is used, and whatever has a wrong type is left to the walker.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from cachedit_yaml.rules.catalogue import finding
from cachedit_yaml.yaml.diagnostics import Diagnostic, KeyPath, Span
from cachedit_yaml.yaml.document import Document

if TYPE_CHECKING:
    from typing import TypeGuard


class BlockListAt(NamedTuple):
    """A declared block list: its transformer, its name, its path of keys and its value."""

    transformer: str
    name: str
    path: KeyPath
    content: object

    @property
    def names(self) -> tuple[str, str]:
        """How a profile may call it."""
        return self.name, f"{self.transformer}.{self.name}"


class Context:
    """One adapter (or one mapping of settings) under examination."""

    def __init__(
        self, data: Mapping[str, Any], document: Document | None, prefix: KeyPath = ()
    ) -> None:
        self.data = data
        self.document = document
        self.prefix = prefix
        self.diagnostics: list[Diagnostic] = []
        self.named = {
            name: mapping(value) for name, value in mapping(data.get("transformers")).items()
        }

    def span(self, path: KeyPath, key: bool = False) -> Span | None:
        """Where a key or its value stands; None without a file."""
        if self.document is None:
            return None
        return self.document.key_span(path) if key else self.document.value_span(path)

    def report(
        self,
        code: str,
        message: str,
        path: KeyPath,
        *,
        key: bool = False,
        related: tuple[str, KeyPath] | None = None,
        near: Sequence[str] = (),
        **more: Any,
    ) -> None:
        """Add a finding.

        Args:
            code: the rule.
            message: what is wrong.
            path: the keys that lead there.
            key: whether the key is meant, and not its value.
            related: another place, and a word on why it matters.
            near: right names that are near; the first is advised, and written by `--fix`.
            **more: further fields of the diagnostic.
        """
        span = self.span(path, key)
        others: tuple[tuple[str, Span], ...] = ()
        if related is not None:
            other = self.span(related[1], key=True)
            others = ((related[0], other),) if other is not None else ()
        if near:
            more["hint"] = f"did you mean {near[0]!r}?"
            if self.document is not None:
                more["fix"] = self.document.replacement(path, near[0], key=key)
        self.diagnostics.append(
            finding(code, message, (*self.prefix, *path), span, related=others, **more)
        )

    def lists(self) -> Iterator[BlockListAt]:
        """Each block list, those of variants included."""
        for name, value in self.named.items():
            base: KeyPath = ("transformers", name)
            for block, content in _named(value.get("blocks")):
                yield BlockListAt(name, block, (*base, "blocks", block), content)
            for index, variant in enumerate(items(value.get("variants"))):
                for block, content in _named(mapping(variant).get("blocks")):
                    path = (*base, "variants", index, "blocks", block)
                    yield BlockListAt(name, block, path, content)

    def layers(self) -> Iterator[tuple[KeyPath, Mapping[str, Any]]]:
        """Every mapping of cache settings, with its path."""
        data = self.data
        if "cache" in data:
            yield ("cache",), mapping(data["cache"])
        for index, step in enumerate(items(data.get("steps"))):
            yield ("steps", index), mapping(step)
        for name, value in mapping(data.get("profiles")).items():
            yield ("profiles", name), mapping(value)
            for block, settings in mapping(mapping(value).get("lists")).items():
                yield ("profiles", name, "lists", block), mapping(settings)
        for name, value in self.named.items():
            yield ("transformers", name, "params"), mapping(value.get("params"))
        for each in self.lists():
            yield (*each.path, "params"), mapping(mapping(each.content).get("params"))

    def standing(self, block: BlockListAt, name: str) -> tuple[Any, KeyPath] | None:
        """A setting of a block list before steps and profiles come in, and where it is said."""
        layers: tuple[tuple[KeyPath, Mapping[str, Any]], ...] = (
            ((*block.path, "params"), mapping(mapping(block.content).get("params"))),
            (
                ("transformers", block.transformer, "params"),
                mapping(self.named[block.transformer].get("params")),
            ),
            (("cache",), mapping(self.data.get("cache"))),
        )
        for path, layer in layers:
            if name in layer:
                return layer[name], (*path, name)
        return None


def mapping(value: object) -> Mapping[str, Any]:
    """The value where it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def _named(value: object) -> Iterator[tuple[str, Any]]:
    """What has a name; that another key is none is said elsewhere."""
    return ((name, item) for name, item in mapping(value).items() if isinstance(name, str))


def items(value: object) -> Sequence[Any]:
    """The value where it is a list, else an empty one."""
    return value if isinstance(value, (list, tuple)) else ()


def strings(value: object) -> list[str]:
    """The texts of a list."""
    return [item for item in items(value) if isinstance(item, str)]


def at(data: object, path: KeyPath) -> object:
    """The value at a path of keys; None where it ends early."""
    for step in path:
        data = mapping(data).get(str(step))
    return data


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a number, which a boolean is not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_count(value: object) -> TypeGuard[int]:
    """Whether a value is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def pattern_of(content: object) -> str | None:
    """The forward pattern of a block list, in the short or the long form."""
    found = content if isinstance(content, str) else mapping(content).get("pattern")
    return found if isinstance(found, str) else None
