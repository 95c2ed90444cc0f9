"""What one type cannot say: keys that exclude, need or name each other.

The rules look at plain data, not at the dataclasses: they must know which keys were given, and
they must find what they can in a document that has other errors too. So everything is tested
before it is used, and whatever has a wrong type is left to the walker.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from cachedit_yaml.language.diagnostics import (
    Diagnostic,
    KeyPath,
    Severity,
    Span,
    did_you_mean,
    one_of,
    show,
)
from cachedit_yaml.language.document import Document
from cachedit_yaml.language.spec import LANGUAGE_VERSION

#: Which calibrators an option belongs to.
_CALIBRATOR_OPTIONS: Final[Mapping[str, str]] = {
    "taylorseer_order": "taylorseer",
    "dmd_history": "dmd",
    "dmd_rank": "dmd",
    "dmd_ridge": "dmd",
    "dmd_svd_precision": "dmd",
}
#: Patterns whose blocks do not take and return what DBPrune needs.
_NOT_PRUNABLE: Final = frozenset({"Pattern_3", "Pattern_4", "Pattern_5"})
#: A static mask decides each step, so these have nothing left to limit.
_IGNORED_BY_STATIC: Final = ("max_cached_steps", "max_continuous_cached_steps")


def check_version(data: Mapping[str, Any], document: Document | None = None) -> list[Diagnostic]:
    """Check the version of the language, before anything else.

    Returns:
        At most one diagnostic: ``schema-version`` says that nothing else makes sense to check.
    """
    rules = _Rules(data, document, ())
    if "schema" not in data:
        rules.report(
            "missing-key",
            "the file does not say which version of the language it is written for",
            (),
            hint=f"add 'schema: {LANGUAGE_VERSION}' as the first line",
        )
        return rules.diagnostics
    version = data["schema"]
    if isinstance(version, bool) or not isinstance(version, (int, float)):
        return []
    if version > LANGUAGE_VERSION:
        rules.report(
            "schema-version",
            f"the file is written for version {show(version)} of the language, and this release "
            f"of cachedit-yaml reads version {LANGUAGE_VERSION}",
            ("schema",),
            hint=f"install a release that reads version {show(version)}: "
            "pip install --upgrade cachedit-yaml",
        )
    return rules.diagnostics


def check_adapter(
    data: Mapping[str, Any], document: Document | None = None, *, standalone: bool = True
) -> list[Diagnostic]:
    """Check what holds between the keys of an adapter.

    Args:
        data: the adapter as plain data, after `extends`.
        document: the document that the data comes from, for positions.
        standalone: whether the adapter has to say which pipelines it is for; not so for a dict
            that is passed along with its pipeline, or for one that extends another.

    Returns:
        All errors and warnings of these rules.
    """
    rules = _Rules(data, document, ())
    rules.layout(standalone)
    rules.transformers()
    rules.step_split()
    rules.guidance()
    rules.duplicates()
    rules.profiles()
    rules.pruning()
    for path, settings in _layers(data):
        rules.settings(settings, path)
    return rules.diagnostics


def check_settings(data: Mapping[str, Any], prefix: KeyPath = ()) -> list[Diagnostic]:
    """Check what holds between the keys of one mapping of cache settings."""
    rules = _Rules(data, None, prefix)
    rules.settings(data, ())
    return rules.diagnostics


class _Rules:
    def __init__(self, data: Mapping[str, Any], document: Document | None, prefix: KeyPath) -> None:
        self.data = data
        self.document = document
        self.prefix = prefix
        self.diagnostics: list[Diagnostic] = []
        self.named = {
            name: _mapping(value) for name, value in _mapping(data.get("transformers")).items()
        }

    def span(self, path: KeyPath, key: bool = False) -> Span | None:
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
        severity: Severity = "error",
        related: tuple[str, KeyPath] | None = None,
        **more: Any,
    ) -> None:
        others: tuple[tuple[str, Span], ...] = ()
        if related is not None:
            span = self.span(related[1], key=True)
            others = ((related[0], span),) if span is not None else ()
        self.diagnostics.append(
            Diagnostic(
                code,
                message,
                (*self.prefix, *path),
                self.span(path, key),
                severity,
                related=others,
                **more,
            )
        )

    # --- the adapter as a whole ---

    def layout(self, standalone: bool) -> None:
        refused = "refuse" in self.data
        if refused and "transformers" in self.data:
            self.report(
                "unusable",
                "an adapter that refuses cannot have transformers",
                ("refuse",),
                key=True,
                related=("declared here", ("transformers",)),
                hint="remove one of the two",
            )
        elif not refused and not self.data.get("transformers"):
            path: KeyPath = ("transformers",) if "transformers" in self.data else ()
            self.report(
                "missing-key",
                "the adapter names no transformers",
                path,
                key=True,
                hint="add 'transformers: {transformer: {blocks: {LIST: Pattern_1}}}', or "
                "'refuse: REASON' if these pipelines must not be cached",
            )
        if refused and isinstance(self.data["refuse"], str) and not self.data["refuse"].strip():
            self.report(
                "wrong-format",
                "'refuse' gives no reason",
                ("refuse",),
                hint="say in one sentence why",
            )
        if standalone and not self.data.get("pipelines") and not any(self.classes()):
            self.report(
                "missing-key",
                "nothing says which pipelines this adapter is for",
                (),
                hint="add 'pipelines: [ClassName]', or a 'class:' to a transformer",
            )

    def classes(self) -> Iterator[Any]:
        for transformer in self.named.values():
            yield transformer.get("class")
            for variant in _items(transformer.get("variants")):
                yield _mapping(variant).get("class")

    def transformers(self) -> None:
        for name, value in self.named.items():
            path: KeyPath = ("transformers", name)
            given = _mapping(self.data.get("transformers")).get(name)
            if isinstance(given, Mapping) and "blocks" not in value and "variants" not in value:
                self.report(
                    "missing-key",
                    f"{name!r} names no block lists",
                    path,
                    key=True,
                    hint="add 'blocks: {LIST: Pattern_1}' or 'variants'",
                )
            seen: dict[tuple[str, ...], int] = {}
            for index, variant in enumerate(_items(value.get("variants"))):
                variant = _mapping(variant)
                taken = tuple(c for c in _items(variant.get("class")) if isinstance(c, str))
                for earlier, first in seen.items():
                    if taken and set(taken) <= set(earlier):
                        self.report(
                            "ignored",
                            f"variant {index + 1} is never taken: an earlier one takes "
                            f"{one_of(taken)}",
                            (*path, "variants", index),
                            severity="warning",
                            related=("taken here", (*path, "variants", first)),
                        )
                if taken and "when" not in variant:
                    seen.setdefault(taken, index)

    def step_split(self) -> None:
        split = _mapping(self.data.get("step_split"))
        base: KeyPath = ("step_split",)
        boundary = _mapping(split.get("boundary"))
        for key in ("high", "low"):
            self.declared(boundary.get(key), (*base, "boundary", key))
        if "high" in boundary and boundary.get("high") == boundary.get("low"):
            self.report(
                "unusable", "'high' and 'low' name the same transformer", (*base, "boundary", "low")
            )
        for kind in ("fraction", "count"):
            for name in _mapping(split.get(kind)):
                self.declared(name, (*base, kind, name), key=True)
        shares = [v for v in _mapping(split.get("fraction")).values() if _is_number(v)]
        if sum(shares) > 1 + 1e-9:
            self.report(
                "out-of-range",
                f"the fractions add up to {sum(shares):g}",
                (*base, "fraction"),
                key=True,
                expected="at most 1",
            )
        rests = [n for n, v in _mapping(split.get("count")).items() if v == -1 and v is not True]
        if len(rests) > 1:
            self.report(
                "unusable",
                "only one transformer can take the rest of the steps",
                (*base, "count", rests[1]),
                related=("the other", (*base, "count", rests[0])),
            )

    def declared(self, name: object, path: KeyPath, key: bool = False) -> None:
        if isinstance(name, str) and name not in self.named and self.named:
            self.report(
                "unknown-name",
                f"no transformer is called {name!r}",
                path,
                key=key,
                expected=one_of(list(self.named)),
                hint=did_you_mean(name, self.named),
            )

    def guidance(self) -> None:
        guidance = _mapping(self.data.get("guidance"))
        if "separate_when" in guidance and guidance.get("mode") in ("fused", "separate"):
            self.report(
                "unusable",
                f"'mode: {guidance['mode']}' and 'separate_when' say different things",
                ("guidance", "separate_when"),
                key=True,
                related=("the mode", ("guidance", "mode")),
                hint="keep one of them",
            )

    def duplicates(self) -> None:
        lists: list[KeyPath] = [("pipelines",), ("models",)]
        for name, value in self.named.items():
            base: KeyPath = ("transformers", name)
            lists.append((*base, "class"))
            lists += [(*base, "blocks", b, "class") for b in _mapping(value.get("blocks"))]
        for path in lists:
            seen: dict[str, int] = {}
            for index, item in enumerate(_items(_at(self.data, path))):
                if isinstance(item, str):
                    if item in seen:
                        self.report(
                            "duplicate-item",
                            f"{item!r} stands twice in {path[-1]!r}",
                            (*path, index),
                            related=("first here", (*path, seen[item])),
                        )
                    seen.setdefault(item, index)
        bounds: dict[object, int] = {}
        for index, step in enumerate(_items(self.data.get("steps"))):
            bound = _mapping(step).get("max_steps")
            if _is_number(bound):
                if bound in bounds:
                    self.report(
                        "duplicate-item",
                        f"two entries have 'max_steps: {bound}'",
                        ("steps", index, "max_steps"),
                        related=("first here", ("steps", bounds[bound], "max_steps")),
                    )
                bounds.setdefault(bound, index)

    # --- block lists ---

    def lists(self) -> Iterator[tuple[str, str, KeyPath, object]]:
        """Transformer, list, path and value of each block list, those of variants included."""
        for name, value in self.named.items():
            base: KeyPath = ("transformers", name)
            for block, content in _mapping(value.get("blocks")).items():
                yield name, block, (*base, "blocks", block), content
            for index, variant in enumerate(_items(value.get("variants"))):
                for block, content in _mapping(_mapping(variant).get("blocks")).items():
                    yield name, block, (*base, "variants", index, "blocks", block), content

    def profiles(self) -> None:
        full = dict.fromkeys(f"{name}.{block}" for name, block, _, _ in self.lists())
        for profile, value in _mapping(self.data.get("profiles")).items():
            for name in _mapping(_mapping(value).get("lists")):
                path: KeyPath = ("profiles", profile, "lists", name)
                if not isinstance(name, str) or name in full or not full:
                    continue
                short = dict.fromkeys(
                    f"{t}.{block}" for t, block, _, _ in self.lists() if block == name
                )
                if len(short) > 1:
                    self.report(
                        "unknown-name",
                        f"{name!r} may be {one_of(list(short))}",
                        path,
                        key=True,
                        hint="write it with its transformer",
                    )
                elif not short:
                    names = [*full, *(block for _, block, _, _ in self.lists())]
                    self.report(
                        "unknown-name",
                        f"no block list is called {name!r}",
                        path,
                        key=True,
                        expected=one_of(list(full)),
                        hint=did_you_mean(name, names),
                    )

    def pruning(self) -> None:
        wrong: list[tuple[KeyPath, object, KeyPath]] = []
        for name, _, path, content in self.lists():
            pattern = content if isinstance(content, str) else _mapping(content).get("pattern")
            if pattern not in _NOT_PRUNABLE:
                continue
            own = _mapping(_mapping(content).get("params"))
            outer = _mapping(self.named[name].get("params"))
            # The innermost layer that names a type decides.
            if "cache_type" in own:
                layers = [((*path, "params"), own)]
            elif "cache_type" in outer:
                layers = [(("transformers", name, "params"), outer)]
            else:
                layers = [(p, s) for p, s in _layers(self.data) if p[0] != "transformers"]
            wrong += [(p, pattern, path) for p, s in layers if s.get("cache_type") == "DBPrune"]
        for path in dict.fromkeys(p for p, _, _ in wrong):
            pattern, block = next((pattern, b) for p, pattern, b in wrong if p == path)
            self.report(
                "unusable",
                f"DBPrune cannot prune blocks of {pattern}",
                (*path, "cache_type"),
                expected="Pattern_0, Pattern_1 or Pattern_2",
                hint="use DBCache",
                related=("the block list", block),
            )

    # --- cache settings ---

    def settings(self, data: Mapping[str, Any], path: KeyPath) -> None:
        calibrator = _mapping(data.get("calibrator"))
        kind = calibrator.get("type")
        for option, owner in _CALIBRATOR_OPTIONS.items():
            if option in calibrator and isinstance(kind, str) and kind != owner:
                self.report(
                    "unusable",
                    f"{option!r} is an option of {owner}, and the type is {kind}",
                    (*path, "calibrator", option),
                    key=True,
                    hint="remove it",
                )
        mask = _mapping(data.get("scm"))
        if mask.get("policy") == "static":
            for name in _IGNORED_BY_STATIC:
                if data.get(name, -1) != -1:
                    self.report(
                        "ignored",
                        f"{name!r} has no effect beside a static mask",
                        (*path, name),
                        key=True,
                        severity="warning",
                        related=("the mask", (*path, "scm", "policy")),
                    )
        steps = _items(mask.get("mask"))
        if steps and steps[0] == 0:
            self.report(
                "ignored",
                "the first step has nothing to be served from, so it is computed",
                (*path, "scm", "mask", 0),
                severity="warning",
                hint="begin the mask with 1",
            )
        if "force_refresh_step_policy" in data and data.get("force_refresh_step_hint", 0) is None:
            self.report(
                "ignored",
                "'force_refresh_step_policy' has no effect without a hint",
                (*path, "force_refresh_step_policy"),
                key=True,
                severity="warning",
            )


def _layers(data: Mapping[str, Any]) -> Iterator[tuple[KeyPath, Mapping[str, Any]]]:
    """Every mapping of cache settings in an adapter, with its path."""
    if "cache" in data:
        yield ("cache",), _mapping(data["cache"])
    for index, step in enumerate(_items(data.get("steps"))):
        yield ("steps", index), _mapping(step)
    for name, value in _mapping(data.get("profiles")).items():
        yield ("profiles", name), _mapping(value)
        for block, settings in _mapping(_mapping(value).get("lists")).items():
            yield ("profiles", name, "lists", block), _mapping(settings)
    for name, value in _mapping(data.get("transformers")).items():
        base: KeyPath = ("transformers", name)
        yield (*base, "params"), _mapping(_mapping(value).get("params"))
        groups: list[tuple[KeyPath, object]] = [((*base, "blocks"), _mapping(value).get("blocks"))]
        for index, variant in enumerate(_items(_mapping(value).get("variants"))):
            path: KeyPath = (*base, "variants", index, "blocks")
            groups.append((path, _mapping(variant).get("blocks")))
        for path, blocks in groups:
            for block, content in _mapping(blocks).items():
                yield (*path, block, "params"), _mapping(_mapping(content).get("params"))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _items(value: object) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()


def _at(data: object, path: KeyPath) -> object:
    for step in path:
        data = _mapping(data).get(str(step))
    return data


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
