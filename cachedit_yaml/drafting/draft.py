"""``cachedit_yaml.infer``: the adapter of a pipeline, drafted from one watched call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

import cachedit_yaml
from cachedit_yaml.drafting.blocks import KEPT, Blocks
from cachedit_yaml.drafting.lists import lists_of
from cachedit_yaml.drafting.nothing import why_nothing
from cachedit_yaml.drafting.record import Run
from cachedit_yaml.drafting.steps import Denoiser, denoisers, split
from cachedit_yaml.drafting.watch import Watch
from cachedit_yaml.drafting.writing import text_of
from cachedit_yaml.errors import ConfigError, DraftError
from cachedit_yaml.language.spec import AdapterSpec

if TYPE_CHECKING:
    from cachedit_yaml.probe.live import Proof


@dataclass(frozen=True)
class Draft:
    """An adapter that nobody has written.

    Attributes:
        data: the adapter as plain data.
        yaml: the same as the text of a file, with comments.
        evidence: what the run has shown, by attribute path.
        doubts: what it has not shown, so that somebody has to look.
        steps: denoising steps of the call, where no scheduler tells them.
        target: the pipeline or transformer that was watched.
        call: runs it once.
    """

    data: Mapping[str, Any]
    yaml: str
    evidence: Mapping[str, tuple[str, ...]]
    doubts: tuple[str, ...]
    steps: int | None
    target: Any = field(repr=False)
    call: Callable[[], Any] = field(repr=False)

    @property
    def refused(self) -> str | None:
        """Why the pipeline must not be cached; None where it can be."""
        return self.data.get("refuse")

    @property
    def kept(self) -> bool:
        """Whether a list was left out because a call keeps what its blocks return."""
        return any(KEPT in texts for texts in self.evidence.values())

    @property
    def spec(self) -> AdapterSpec:
        """The adapter.

        Raises:
            AdapterError: the draft is no valid adapter.
        """
        return cachedit_yaml.load_adapter({"name": "draft", **self.data})

    def check(self) -> Proof:
        """Prove it, as :func:`cachedit_yaml.check` does.

        Raises:
            RefusedError: the draft says that the pipeline must not be cached.
        """
        return cachedit_yaml.check(self.target, self.spec, self.call, steps=self.steps)


def infer(target: Any, call: Callable[[], Any]) -> Draft:
    """Draft the adapter of a pipeline from one call of it.

    The call is watched through hooks, which are gone afterwards; it computes what it would have
    computed without. Two to four denoising steps are enough: at least two, and with two
    transformers at least one of each.

    Args:
        target: a live pipeline, or a transformer alone; not cached.
        call: runs it once, as ``lambda: pipe("a cat", num_inference_steps=4)``.

    Raises:
        ConfigError: the pipeline is cached already, or the call fails.
        DraftError: nothing in it denoises.
    """
    if cachedit_yaml.handle_of(target) is not None:
        raise ConfigError("infer() needs the pipeline uncached: disable its handle first")
    with Watch(target) as watch, torch.no_grad():
        try:
            call()
        except Exception as error:  # anything that the call raises
            raise ConfigError(
                f"the call raised {type(error).__name__}: {error}; give one that works"
            ) from error
    draft = drafted(target, call, watch)
    if draft.kept:
        # A local list that nobody reads, or a variable: the values on a hit tell.
        other = drafted(target, call, watch, trusting=True)
        if other.refused is None and not other.check().broken:
            return other
    return draft


def drafted(target: Any, call: Callable[[], Any], watch: Watch, *, trusting: bool = False) -> Draft:
    """What a watched call says of a pipeline.

    Args:
        target: the pipeline or transformer.
        call: runs it once.
        watch: what was seen.
        trusting: what is kept of blocks' outputs is not read, as far as values will show.

    Raises:
        DraftError: nothing in it denoises.
    """
    run = watch.run
    if run.gradients:
        raise DraftError(
            "the call ran with gradients, which keep everything that a block returns: run it under "
            "torch.no_grad()"
        )
    found = denoisers(run, watch.candidates)
    if not found:
        raise DraftError(why_nothing(target, watch))
    evidence: dict[str, tuple[str, ...]] = {}
    doubts: list[str] = []
    refused: list[str] = []
    transformers: dict[str, dict[str, Any]] = {}
    kept: list[Denoiser] = []
    for item in found:
        lists = lists_of(item, watch.candidates, evidence, refused, trusting=trusting)
        if lists:
            kept.append(item)
            transformers[item.path or "transformer"] = _transformer(item, lists)
            prefix = f"{item.path}." if item.path else ""
            doubts += [f"{prefix}{each.path}: {text}" for each in lists for text in each.doubts]
            if item.denoising:
                name = f"{item.path or 'transformer'}.denoising"
                evidence[name] = ("any other call runs uncached, for it is no step",)
    data: dict[str, Any] = {"schema": 1}
    data |= _heading(target, run)
    if not transformers:
        data["transformers"] = {
            item.path or "transformer": {"class": [type(item.module).__name__]} for item in found
        }
        data["refuse"] = "; ".join(dict.fromkeys(refused)) or "no list of blocks fits"
    else:
        data["transformers"] = transformers
        data |= _schedulers(kept, transformers)
        if all(item.timestep is None and item.scheduler is None for item in kept):
            data["guidance"] = "fused"
            doubts.append("nothing tells the steps, so each call is taken for one: see `guidance`")
        divided, more = split(target, run, kept)
        doubts += more
        if divided is not None:
            data["step_split"] = divided
    steps = len(run.stepped) or None
    text = text_of(data, evidence, doubts, steps or found[0].count)
    told = found[0].count if steps is None else None
    return Draft(data, text, evidence, tuple(doubts), told, target, call)


def _heading(target: Any, run: Run) -> dict[str, Any]:
    name = type(target).__name__
    heading: dict[str, Any] = {"description": name}
    latents = run.latents or ()
    if "video" in name.lower() or len(latents) == 5:  # batch, channels, frames, height, width
        heading["kind"] = "video"
    elif "audio" in name.lower() or "music" in name.lower():
        heading["kind"] = "audio"
    if not isinstance(target, torch.nn.Module):
        heading["pipelines"] = [name]
    return heading


def _transformer(denoiser: Denoiser, lists: Sequence[Blocks]) -> dict[str, Any]:
    made: dict[str, Any] = {"class": [type(denoiser.module).__name__]}
    if denoiser.timestep not in (None, "timestep"):
        made["timestep"] = denoiser.timestep
    if denoiser.denoising:
        made["denoising"] = dict(denoiser.denoising)
    made["blocks"] = {}
    for item in lists:
        more: dict[str, Any] = {"pattern": item.pattern}
        more |= {"roles": item.roles} if item.roles else {}
        more |= {"returns": item.returns} if item.returns else {}
        more |= {"follows": item.follows} if item.follows else {}
        made["blocks"][item.path] = more if len(more) > 1 else item.pattern
    return made


def _schedulers(
    kept: Sequence[Denoiser], transformers: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """The scheduler where it has another name; beneath each transformer where they differ."""
    paths = {item.path or "transformer": item.scheduler for item in kept}
    named = {path for path in paths.values() if path is not None}
    if len(named) == 1:
        only = named.pop()
        return {"scheduler": only} if only != "scheduler" else {}
    for name, path in paths.items():
        if path not in (None, "scheduler"):
            transformers[name]["scheduler"] = path
    return {}
