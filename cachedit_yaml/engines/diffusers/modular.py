"""Modular pipelines of diffusers: blocks in a row, and the components that they share."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.probe.classes import ProbeError
from cachedit_yaml.probe.pipelines import Built, quiet

if TYPE_CHECKING:
    from cachedit_yaml.probe.recipe import Recipe

#: How diffusers calls the block that denoises, in every pipeline.
DENOISE: Final = "denoise"


class ModularBuilt(Built):
    """A small Modular pipeline, or its denoise block as a pipeline of its own.

    Attributes:
        before: for a denoise block, the pipeline of the blocks before it, which makes its inputs.
    """

    OUTPUT: ClassVar[str] = "pt"

    def __init__(self, spec: AdapterSpec, recipe: Recipe, target: Any, before: Any = None) -> None:
        self.before = before
        super().__init__(spec, recipe, target)

    def _takes(self) -> Collection[str]:
        pipelines = [self.target] if self.before is None else [self.before, self.target]
        return {name for item in pipelines for name in item.blocks.input_names if name}

    def _call(self, arguments: Mapping[str, Any]) -> Any:
        """Everything in the pipeline's state at its end: what each block made."""
        state = None
        if self.before is not None:
            given = {*self.before.blocks.input_names}
            state = self.before(**{k: v for k, v in arguments.items() if k in given})
            own = {*self.target.blocks.input_names} - {*state.values}
            arguments = {k: v for k, v in arguments.items() if k in own}
        return self.target(state=state, **arguments).values


def is_modular(cls: type) -> bool:
    """Whether a class is a Modular pipeline."""
    from diffusers import ModularPipeline

    return issubclass(cls, ModularPipeline)


def default_blocks(cls: type) -> Any:
    """The blocks of a Modular pipeline's class; None where it has none of its own."""
    import diffusers

    name = getattr(cls, "default_blocks_name", None)
    return getattr(diffusers, name)() if isinstance(name, str) else None


@functools.cache
def takes(cls: type) -> tuple[set[str], set[str]]:
    """What a Modular pipeline takes: its components, and the inputs of its blocks."""
    blocks = default_blocks(cls)
    if blocks is None:
        return set(), set()
    return {*blocks.component_names}, {*blocks.input_names} - {None}


def refuse_unknown(cls: type, config: Collection[str]) -> None:
    """Refuse settings that no block of a Modular pipeline knows.

    Raises:
        ProbeError: there is one.
    """
    blocks = default_blocks(cls)
    known = [item.name for item in blocks.expected_configs] if blocks is not None else []
    for name in config:
        if name not in known:
            raise ProbeError(f"config.{name}: no block of {cls.__name__} has such a setting")


@functools.cache
def stages(cls: type | None) -> Sequence[str]:
    """The blocks of a Modular pipeline that can be tried alone: the one that denoises."""
    if cls is None or not is_modular(cls) or (blocks := default_blocks(cls)) is None:
        return ()
    return (DENOISE,) if DENOISE in blocks.sub_blocks else ()


def components(cls: type) -> Iterator[tuple[str, type]]:
    """The components of a Modular pipeline's class that are modules: names and classes."""
    import torch

    blocks = default_blocks(cls)
    for item in blocks.expected_components if blocks is not None else ():
        if isinstance(item.type_hint, type) and issubclass(item.type_hint, torch.nn.Module):
            yield item.name, item.type_hint


def build(spec: AdapterSpec, recipe: Recipe, cls: Any, parts: Mapping[str, Any]) -> ModularBuilt:
    """Make a Modular pipeline, or the part of it that a recipe asks for.

    Args:
        spec: the adapter that the recipe is of.
        recipe: what to make.
        cls: the pipeline's class.
        parts: its components, by name.

    Raises:
        ProbeError: it cannot be made.
    """
    before = None
    try:
        with quiet():
            target = _with(cls(blocks=_blocks_for(cls, parts)), parts, recipe.config)
            if recipe.stage is not None:
                from diffusers import SequentialPipelineBlocks

                blocks = dict(target.blocks.sub_blocks)
                first = [*blocks][: [*blocks].index(recipe.stage)]
                row = SequentialPipelineBlocks.from_blocks_dict(
                    {name: blocks[name] for name in first}
                )
                before = _with(cls(blocks=row), parts, recipe.config)
                whole = target
                target = _with(blocks[recipe.stage].init_pipeline(), parts, recipe.config)
                # Sizes that blocks read off a component, or take to be those of released models.
                for name, part in whole.components.items():
                    vars(before).setdefault(name, part)
                    if name.endswith("vae"):
                        vars(target).setdefault(name, part)
    except Exception as error:
        raise ProbeError(
            f"{recipe.pipeline} cannot be made: {type(error).__name__}: {error}"
        ) from error
    for name, value in recipe.attributes.items():
        if not isinstance(getattr(type(target), name, None), property):
            setattr(target, name, value)
    return ModularBuilt(spec, recipe, target, before)


def _blocks_for(cls: Any, parts: Mapping[str, Any]) -> Any:
    """The blocks of a pipeline without those whose models are absent: a prompt upsampler."""
    blocks = default_blocks(cls)
    for name, block in list(blocks.sub_blocks.items()):
        loaded = (
            item.name
            for item in block.expected_components
            if item.default_creation_method == "from_pretrained"
        )
        if (needed := [*loaded]) and all(parts.get(item) is None for item in needed):
            blocks.sub_blocks.pop(name)
    _no_bars(blocks)
    return blocks


def _with(pipeline: Any, parts: Mapping[str, Any], config: Mapping[str, Any]) -> Any:
    """A pipeline with those of some components and settings that it takes."""
    takes = {*pipeline.component_names, *pipeline._config_specs}
    given = {**{name: part for name, part in parts.items() if part is not None}, **config}
    pipeline.update_components(**{name: value for name, value in given.items() if name in takes})
    return pipeline


def _no_bars(blocks: Any) -> None:
    """No progress bars, wherever a block loops."""
    if callable(getattr(blocks, "set_progress_bar_config", None)):
        blocks.set_progress_bar_config(disable=True)
    for block in blocks.sub_blocks.values():
        _no_bars(block)
