"""A page for each family of models, made from its adapter and from what was proved of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cachedit_yaml.cli.explanation import Explainer
from cachedit_yaml.cli.facts import measured_settings
from cachedit_yaml.engines import find_engine
from cachedit_yaml.language.build import to_data
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.registry.entry import Entry
from docs.site.pages import MEASURED, ROOT

#: Pictures of measured profiles, by the adapter's name; otherwise docs/NAME.png, if there is one.
PICTURES: Final = {"dit-demo": "docs/demo.png"}
#: Where an engine starts with no cache back end at all (docs/engines.md, under vLLM-Omni).
IN_HAND: Final = {("vllm_omni", "boogu-image"), ("vllm_omni", "anima")}
#: What is longer is left to the file.
_LONG: Final = 60
_TAKES: Final = {
    "Pattern_0": "`hidden_states, encoder_hidden_states` → the same two",
    "Pattern_1": "`hidden_states, encoder_hidden_states` → the same two, the other way round",
    "Pattern_2": "`hidden_states, encoder_hidden_states` → `hidden_states`",
    "Pattern_3": "`hidden_states` → the same",
    "Pattern_4": "`hidden_states` → `hidden_states, encoder_hidden_states`",
    "Pattern_5": "`hidden_states` → `encoder_hidden_states, hidden_states`",
}


@dataclass(frozen=True)
class Proof:
    """What docs/models.md says of a class in an engine.

    Attributes:
        exact: ``yes``, or ``-`` where it was not tried.
        rival: what the code written by hand does: equal, wrong, refuses, absent.
        note: more of it, or an empty text.
    """

    exact: str
    rival: str
    note: str


#: By section of the page, which is an engine's name, and class.
Proofs = Mapping[tuple[str, str], Proof]


def read_proofs(text: str) -> Proofs:
    """The rows of docs/models.md and the remarks below them."""
    found: dict[tuple[str, str], Proof] = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title = section.partition("\n")[0]
        engine = "diffusers" if title == "other packages" else title
        notes = dict(re.findall(r"^- (\w+): (.+)$", section, re.MULTILINE))
        row = r"^\| (\w+) \|[^|]*\|[^|]*\| (.*) \| ([\w-]+) \| ([\w-]+) \|$"
        for name, _, exact, rival in re.findall(row, section, re.MULTILINE):
            found[engine, name] = Proof(exact, rival, notes.get(name, ""))
    return found


def path_of(entry: Entry) -> str:
    """The path of an adapter in the repository."""
    return entry.path.resolve().relative_to(ROOT).as_posix()


def engines_of(entry: Entry) -> list[str]:
    """The engines with pipelines of their own: cache-dit runs those of diffusers."""
    return [name for name in entry.engines if name != "cache_dit"]


def overview(entries: Sequence[Entry], proofs: Proofs) -> str:
    """The page that lists the families."""
    shipped = sum(entry.kind == "shipped" for entry in entries)
    lines = [
        "# Families of models",
        f"{shipped} adapters ship, one for each family. A page says which classes its adapter "
        "serves in which engine, with what settings, and what was proved. "
        "[Every class in one table](/docs/models.md).\n",
        "| Family | Serves | diffusers | vLLM-Omni | SGLang |",
        "|---|---|---|---|---|",
    ]
    for entry in entries:
        cells = [_count(entry, engine, proofs) for engine in ("diffusers", "vllm_omni", "sglang")]
        spec = entry.spec_for(entry.engines[0])
        link = f"[{entry.name}](/{path_of(entry)})"
        lines.append(f"| {link} | {spec.description} | {' | '.join(cells)} |")
    lines.append(
        "\nNumbers are classes of pipelines that are cached; *exact*: with no hit the output was "
        "bit-identical on a small model, for so many of them."
    )
    return "\n".join(lines)


def _count(entry: Entry, engine: str, proofs: Proofs) -> str:
    if engine not in entry.engines:
        return ""
    spec = entry.spec_for(engine)
    if spec.refuse:
        return "refused"
    exact = sum(_proof(proofs, engine, name).exact == "yes" for name in spec.pipelines)
    if exact == len(spec.pipelines):
        return f"{exact} exact"
    return f"{len(spec.pipelines)} ({exact} exact)"


def _proof(proofs: Proofs, engine: str, name: str) -> Proof:
    return proofs.get((engine, name), Proof("-", "-", ""))


def family(entry: Entry, proofs: Proofs) -> str:
    """The page of one adapter."""
    return "\n".join(_family(entry, proofs))


def _family(entry: Entry, proofs: Proofs) -> Iterator[str]:
    specs = {engine: entry.spec_for(engine) for engine in engines_of(entry)}
    first = next(iter(specs.values()))
    yield f"# {entry.name}\n{first.description}\n"
    if first.models:
        links = (f"[{name}](https://huggingface.co/{name})" for name in first.models)
        yield f"Models: {', '.join(links)}\n"
    if first.requires:
        needs = (f"{name} {version.strip()}" for name, version in first.requires.items())
        yield f"Needs {', '.join(needs)}.\n"
    yield "## Use it"
    for engine, spec in specs.items():
        yield from _use(engine, spec)
    yield "\n## Classes"
    for engine, spec in specs.items():
        yield from _classes(engine, spec, proofs)
    served = {engine: spec for engine, spec in specs.items() if not spec.refuse}
    if served:
        yield "\n## Settings"
        yield from _all_settings(served)
        yield from _measured(entry, next(iter(served.values())))
    yield f"\n## The file\n`{path_of(entry)}`\n"
    yield f'``` {{ .yaml #file linenums="1" }}\n{entry.text.rstrip()}\n```\n'
    yield f"`cachedit-yaml explain {entry.name}` says the same for your files, "
    yield "with cache-dit's own defaults. Every key: [the language](/docs/language.md)."


def _use(engine: str, spec: AdapterSpec) -> Iterator[str]:
    title = find_engine(engine).title
    if spec.refuse:
        yield f"**{title}**: refused. {spec.refuse[0].upper()}{spec.refuse[1:]}.\n"
        return
    if (engine, spec.name) in IN_HAND:
        yield f"**{title}** starts with no cache back end for it; where a program has the pipeline "
        yield "in hand, `cachedit_yaml.enable(pipeline)` serves ([more](/docs/engines.md)).\n"
        return
    model = (spec.models or ("./my-model",))[0]
    snippets = {
        "diffusers": f'```python\nhandle = cachedit_yaml.enable(pipe, profile="fast")  # a '
        f"{spec.pipelines[0] if spec.pipelines else 'pipeline'}\n```\n",
        "vllm_omni": f"```sh\nvllm-omni serve {model} --omni --cache-backend cache_dit \\\n"
        '    --cache-config \'{"profile": "fast"}\'\n```\n',
        "sglang": "```sh\nSGLANG_CACHE_DIT_ENABLED=true CACHEDIT_YAML_PROFILE=fast \\\n"
        f"    sglang serve --model-path {model}\n```\n",
    }
    yield f"**{title}** ([more](/docs/engines.md))\n\n{snippets[engine]}"


def _classes(engine: str, spec: AdapterSpec, proofs: Proofs) -> Iterator[str]:
    title = find_engine(engine).title
    rival = "cache-dit's own" if engine == "diffusers" else f"{title}'s own"
    if spec.refuse:
        yield f"\n**{title}**, refused: {', '.join(f'`{name}`' for name in spec.pipelines)}\n"
        return
    if not spec.pipelines:
        yield f"\n**{title}**: by the classes of transformers below.\n"
        return
    yield f"\n| {title} | Exact | {rival} adapter |\n|---|---|---|"
    notes = []
    for name in spec.pipelines:
        proof = _proof(proofs, engine, name)
        yield f"| `{name}` | {proof.exact} | {proof.rival} |"
        notes += [f"- {name}: {proof.note}"] if proof.note else []
    yield ""
    if notes:
        yield f'<details markdown="1">\n<summary>Remarks on {len(notes)} of them</summary>\n'
        yield "\n".join(notes) + "\n\n</details>\n"


def _all_settings(specs: Mapping[str, AdapterSpec]) -> Iterator[str]:
    """One section for the engines that have the same lists and settings."""
    alike: dict[str, list[str]] = {}
    shown: dict[str, list[str]] = {}
    for engine, spec in specs.items():
        lines = list(_settings(spec))
        alike.setdefault("\n".join(lines), []).append(find_engine(engine).title)
        shown["\n".join(lines)] = lines
    for key, titles in alike.items():
        if len(alike) > 1:
            yield f"\n### {', '.join(titles)}"
        yield from shown[key]


def _settings(spec: AdapterSpec) -> Iterator[str]:
    columns: list[str | None] = [None, *spec.profiles]
    found = {name: list(_lists(spec, name)) for name in columns}
    yield "\n| Transformer | Block list | A block takes → returns |\n|---|---|---|"
    groups: dict[str, list[int]] = {}
    for index, (transformer, item) in enumerate(found[None]):
        classes = " or ".join(f"`{name}`" for name in transformer["class"])
        optional = ", may be absent" if transformer["optional"] else ""
        where = f"<br>where {item['when']}" if item["when"] else ""
        takes = f"{_TAKES[item['pattern']]} ({item['pattern']})" if item["pattern"] else ""
        follows = f"<br>follows `{item['follows']}`" if item["follows"] else ""
        name = f"`{transformer['path']}`{optional}" + (f"<br>{classes}" if classes else "")
        yield f"| {name} | `{item['path']}`{where}{follows} | {takes} |"
        same = json.dumps([found[name][index][1]["settings"] for name in columns])
        groups.setdefault(same, []).append(index)
    for indices in groups.values():
        if len(groups) > 1:
            names = (f"`{found[None][i][0]['path']}.{found[None][i][1]['path']}`" for i in indices)
            yield f"\n{', '.join(dict.fromkeys(names))}:"
        yield from _table({name: found[name][indices[0]][1]["settings"] for name in columns})
    for rule in spec.steps:
        said = {key: value for key, value in to_data(rule).items() if key != "max_steps"}
        shown = ", ".join(f"`{key}` {_value(value)}" for key, value in said.items())
        yield f"\nIn generations of at most {rule.max_steps} steps: {shown}."


def _lists(spec: AdapterSpec, profile: str | None) -> Iterator[tuple[dict[str, Any], Any]]:
    for transformer in Explainer(spec, profile=profile).explain()["transformers"]:
        for item in transformer["lists"]:
            yield transformer, item


def _table(settings: Mapping[str | None, Mapping[str, Any]]) -> Iterator[str]:
    """Settings down, profiles across; what a profile leaves as it is stays empty."""
    always = settings[None]
    names = dict.fromkeys(name for column in settings.values() for name in column)
    yield f"\n| Setting | {' | '.join(name or 'no profile' for name in settings)} |"
    yield "|---" * (len(settings) + 1) + "|"
    for name in names:
        cells = []
        for profile, column in settings.items():
            item = column.get(name)
            same = profile is not None and item == always.get(name)
            cells.append("" if item is None or same else _value(item["value"]) + _from(item))
        yield f"| `{name}` | {' | '.join(cells)} |"


def _value(value: Any) -> str:
    text = json.dumps(value) if not isinstance(value, str) else value
    if isinstance(value, dict) and set(value) == {"type"}:
        text = value["type"]
    return f"`{text}`" if len(text) < _LONG else "see the file"


def _from(item: Mapping[str, Any]) -> str:
    """Where a setting comes from, as a link to the line."""
    found = re.match(r"([\w.-]+\.yaml):(\d+): ", item["origin"])
    if found is None:
        return f"<br>{item['origin']}"
    file, line = found.groups()
    path = next((name for name in MEASURED if name.endswith(f"/{file}")), f"adapters/{file}")
    return f"<br>[{file}:{line}](/{path}#__codelineno-file-{line})"


def _measured(entry: Entry, spec: AdapterSpec) -> Iterator[str]:
    found = list(measured_settings(spec))
    if not found:
        yield "\nNone of them was measured on this model: "
        yield "[`cachedit-yaml tune`](/docs/tune.md) does that."
        return
    yield "\n## Measured"
    yield "\n| Profile | Blocks computed | PSNR in dB, all | mean | worst | SSIM |"
    yield "|---|---|---|---|---|---|"
    for name, item in found:
        blocks = "" if item.blocks is None else f"{100 * item.blocks:.0f} %"
        psnr = [getattr(item.psnr, key, None) for key in ("pooled", "mean", "worst")]
        cells = ["" if value is None else f"{value:.1f}" for value in psnr]
        cells.append("" if item.ssim is None else f"{item.ssim:.4f}")
        yield f"| {name} | {blocks} | {' | '.join(cells)} |"
    said = {
        f"{item.model}, {item.steps} steps, {item.prompts} prompts, on {item.device}, "
        f"{item.date}, "
        + ", ".join(f"{name} {version}" for name, version in (item.versions or {}).items())
        for _, item in found
    }
    yield f"\nOn {'; '.join(said)}. How: [tune](/docs/tune.md).\n"
    picture = PICTURES.get(entry.name, f"docs/{entry.name}.png")
    if (ROOT / picture).is_file():
        yield f"![Uncached, and with each profile](/{picture})\n"
