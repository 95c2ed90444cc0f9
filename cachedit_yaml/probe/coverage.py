"""Which pipelines are cached, by which adapter, and what of it is proved."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

from cachedit_yaml.engines import NAMES, find_engine
from cachedit_yaml.engines.protocol import Engine
from cachedit_yaml.language.keys import HOME
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.probe.check import Checked, label
from cachedit_yaml.registry.registry import Entry

Status = Literal["cached", "refused", "none"]
#: Stands for an engine where a class is neither diffusers' nor an engine's.
OTHER: Final = "other packages"


@dataclass(frozen=True)
class Denoiser:
    """A pipeline class with a transformer denoiser.

    Attributes:
        pipeline: the pipeline's class.
        components: its components that are transformers, by name, with their class.
    """

    pipeline: str
    components: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Row:
    """One pipeline class.

    Attributes:
        pipeline: the class.
        transformer: the classes of its transformers, joined by commas.
        adapter: the adapter that names it; None for none.
        lists: the block lists with their patterns.
        status: ``cached``, ``refused`` by its adapter, or ``none``.
        exact: whether every case of its probe is proved; None where nothing was tried.
        cache_dit: what cache-dit's own adapter does, or the engine's own code around it: equal,
            wrong, refuses or absent; None where it was not tried.
        engine: the engine whose class it is, or :data:`OTHER`.
        detail: why it is refused, skipped or not exact, and what cache-dit does.
        measured: the models on which settings of the adapter were measured.
    """

    pipeline: str
    transformer: str
    adapter: str | None
    lists: Mapping[str, str]
    status: Status
    exact: bool | None
    cache_dit: str | None
    engine: str
    detail: str
    measured: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def coverage(
    entries: Sequence[Entry],
    found: Iterable[Denoiser],
    results: Sequence[Checked],
    engines: Collection[str] | None = None,
) -> list[Row]:
    """One row for each pipeline that the installed diffusers has or an adapter names.

    Args:
        entries: the adapters.
        found: the pipelines of the installed diffusers that hold a transformer denoiser.
        results: what `check` found; empty where nothing was tried.
        engines: only the classes of these engines; default: of all.
    """
    components = {item.pipeline: item.components for item in found}
    homes: dict[tuple[str, str], AdapterSpec] = {}
    for entry in entries:
        for engine in entry.engines if engines is None else {*entry.engines} & {*engines}:
            spec = entry.spec_for(engine)
            for name in spec.pipelines if engine != "cache_dit" else ():
                place = engine if engine not in HOME else _package(name)
                homes.setdefault((place, name), spec)
    classes = sorted({*homes, *(("diffusers", name) for name in components)})
    rows = [
        _row(name, engine, homes.get((engine, name)), components.get(name), results)
        for engine, name in classes
    ]
    return sorted(rows, key=lambda row: (row.engine != "diffusers", row.engine, row.pipeline))


def _by_hand(engine: str) -> str:
    """Whose code there is by hand already for an engine's classes."""
    return find_engine(engine).by_hand if engine in NAMES else Engine.by_hand


def _package(pipeline: str) -> str:
    """Where the class of a pipeline is at home that no engine has."""
    import diffusers

    return "diffusers" if hasattr(diffusers, pipeline) else OTHER


def _row(
    name: str,
    engine: str,
    spec: AdapterSpec | None,
    components: Sequence[tuple[str, str]] | None,
    results: Sequence[Checked],
) -> Row:
    # These are of diffusers' class; an engine's class of the same name has its own.
    classes = [cls for _, cls in components or () if engine == "diffusers"]
    if spec is None:
        return Row(name, ", ".join(classes), None, {}, "none", None, None, engine, "")
    adapter = label(spec)
    lists = _lists(spec, classes)
    # Of a refused pipeline the adapter knows no transformer, whatever other engines have.
    known = spec.transformers.values() if spec.refuse is None else ()
    classes = classes or [cls for item in known for cls in item.transformer_class or ()]
    own = [item for item in results if item.adapter == adapter and item.pipeline == name]
    if engine != "diffusers" and not spec.refuse:
        # A pipeline that cannot be made small is tried by its transformer alone.
        own = (
            own
            if any(item.status != "skipped" for item in own)
            else own + [item for item in results if item.adapter == adapter and not item.pipeline]
        )
    tried = [item for item in own if item.status != "skipped"]
    failed = next((line for item in tried for line in item.failures()), "")
    skipped = next((item.detail for item in own if item.status == "skipped"), "")
    rivals = [
        (item.rival, f"[{item.variant}] " if item.variant else "")
        for item in own
        if item.rival and item.rival.outcome != "untried"
    ]
    # The make on which cache-dit does worst tells most.
    order = ("wrong", "refuses", "absent", "equal")
    rival, make = min(rivals, key=lambda pair: order.index(pair[0].outcome), default=(None, ""))
    by_hand = _by_hand(engine)
    theirs = f"{by_hand}: {make}{rival.detail}" if rival is not None and rival.detail else ""
    settings = (spec.cache, *spec.profiles.values())
    return Row(
        pipeline=name,
        transformer=", ".join(dict.fromkeys(classes)),
        adapter=adapter,
        lists=lists,
        status="refused" if spec.refuse is not None else "cached",
        exact=all(item.status == "proved" for item in tried) if tried else None,
        cache_dit=rival.outcome if rival is not None else None,
        engine=engine,
        detail="; ".join(
            text
            for text in (spec.refuse or "", failed, skipped if not tried else "", theirs)
            if text
        ),
        measured=tuple(dict.fromkeys(x.measured.model for x in settings if x.measured)),
    )


def merge(rows: Sequence[Row], others: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Rows, where what nothing was tried of here counts as in other environments.

    Args:
        rows: those of this environment.
        others: rows as plain data, as :meth:`Row.as_dict` gives them.
    """
    tried = {
        (row["engine"], row["pipeline"], row["adapter"]): row
        for row in others
        if row["exact"] is not None
    }
    merged = []
    for row in rows:
        other = tried.get((row.engine, row.pipeline, row.adapter))
        if row.exact is None and other is not None:
            row = replace(
                row,
                exact=other["exact"],
                cache_dit=other["cache_dit"],
                detail=other["detail"],
            )
        merged.append(row)
    return merged


def _lists(spec: AdapterSpec, classes: Collection[str]) -> dict[str, str]:
    """The block lists with their patterns; where layouts go by class, those of these classes."""
    found: dict[str, str] = {}
    for path, transformer in spec.transformers.items():
        layouts = [
            item
            for item in transformer.variants or ()
            if not (classes and item.transformer_class) or {*classes} & {*item.transformer_class}
        ]
        chosen = any(classes and item.transformer_class and not item.when for item in layouts)
        usual = {} if chosen else transformer.blocks or {}
        for blocks in (*(item.blocks for item in layouts), usual):
            found |= {f"{path}.{name}": item.pattern for name, item in blocks.items()}
    return found


def _plain(text: str) -> str:
    """A text that Markdown shows as it is."""
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>#|" else sign for sign in text)


def markdown(rows: Sequence[Row]) -> str:
    """The rows as the text of ``docs/models.md``."""
    cached = [row for row in rows if row.status == "cached"]
    names = {(row.adapter or "").rpartition("/")[2]: row.measured for row in cached}
    measured = [f"{name} on {' and '.join(on)}" for name, on in sorted(names.items()) if on]
    lines = [
        "# Models",
        "",
        "Made by `cachedit-yaml coverage --format markdown`; do not edit.",
        "",
        f"{len(rows)} pipeline classes, {len(cached)} cached by "
        f"{len(names)} adapters; "
        f"{sum(row.exact is True for row in rows)} of them proved exact on small models.",
        "",
        "`exact`: with no hit the output is bit-identical, a hit computes exactly F + B blocks, "
        "disabling restores. The last column is what the code written by hand does on the same "
        "small model: cache-dit's own adapters, tried with no hit, or those of the engine, tried "
        "with no hit and with the same steps served from the cache as ours.",
        "",
        f"Settings were measured for {', '.join(measured) or 'no adapter'}. The others are not "
        "measured on their models: `cachedit-yaml tune`.",
    ]
    for engine in dict.fromkeys(row.engine for row in rows):
        header = ("Pipeline", "Transformer", "Adapter", "Block lists", "Exact")
        by_hand = _by_hand(engine)
        cells = " | ".join((*header, by_hand))
        words = ", ".join(
            f"{sum(row.engine == engine and row.cache_dit == word for row in rows)} {word}"
            for word in ("equal", "wrong", "refuses", "absent")
        )
        lines += ["", f"## {engine}", "", f"{by_hand}: {words}.", ""]
        lines += [f"| {cells} |", "|---|---|---|---|---|---|"]
        for row in rows:
            if row.engine == engine:
                lists = ", ".join(f"`{name}` {text[-1]}" for name, text in row.lists.items())
                exact = {True: "yes", False: "**no**", None: "-"}[row.exact]
                adapter = row.adapter or "none"
                shown = lists if row.status == "cached" else f"refused: {row.detail}"
                lines.append(
                    f"| {row.pipeline} | {row.transformer} | {adapter} | {shown} | {exact} "
                    f"| {row.cache_dit or '-'} |"
                )
        told = [
            f"- {row.pipeline}: {_plain(row.detail)}"
            for row in rows
            if row.engine == engine and row.status == "cached" and row.detail
        ]
        lines += ["", *told] if told else []
    return "\n".join(lines)
