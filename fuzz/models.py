"""Small pipelines for the target that enables: one that is odd, and ones that fit an adapter."""

from __future__ import annotations

import functools
import linecache
from collections.abc import Mapping
from typing import Any

import torch

from cachedit_yaml.compiler.signature import PATTERNS
from cachedit_yaml.language.spec import AdapterSpec, BlockList, Transformer

#: Block lists that a pipeline may have, and blocks of a list.
MOST, BLOCKS = 12, 3
_STATE = torch.zeros(1, 2, 2)


class Block(torch.nn.Module):
    """One block, with the arguments that most have."""

    def forward(self, hidden_states: Any, encoder_hidden_states: Any, temb: Any = None) -> Any:
        """Both as they are."""
        return hidden_states, encoder_hidden_states


class DiT(torch.nn.Module):
    """A transformer with the names of block lists that most have."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("blocks", "transformer_blocks", "single_transformer_blocks", "layers"):
            setattr(self, name, torch.nn.ModuleList(Block() for _ in range(4)))

    def forward(self, hidden_states: Any, encoder_hidden_states: Any, timestep: Any) -> Any:
        """Run the blocks."""
        for block in self.blocks:
            hidden_states, encoder_hidden_states = block(hidden_states, encoder_hidden_states)
        return hidden_states


class Scheduler:
    """What has steps."""

    order = 1

    def __init__(self) -> None:
        self.config = {"num_train_timesteps": 1000}
        self.timesteps = torch.zeros(0)

    def set_timesteps(self, steps: int) -> None:
        """Evenly from the noise to the picture."""
        self.timesteps = torch.linspace(1000, 1, steps)

    def step(self, output: Any, timestep: Any, sample: Any) -> Any:
        """A little of what the model says."""
        return sample + 0.1 * output


class Odd:
    """A pipeline of which some attributes cannot be read."""

    def __init__(self) -> None:
        self.transformer = self.transformer_2 = self.unet = _odd_transformer()
        self.scheduler, self.config = Scheduler(), {"boundary_ratio": 0.9}

    @property
    def prior(self) -> Any:
        """Raise what nobody expects."""
        raise RuntimeError("not now\n::error::x")


@functools.cache
def _odd_transformer() -> torch.nn.Module:
    return DiT()


class Pipeline:
    """What an adapter's paths lead through."""

    def __init__(self) -> None:
        self.transformers: list[Any] = []
        self.schedulers: list[Scheduler] = []
        self.config: dict[str, Any] = {"boundary_ratio": 0.9}


def fitting(spec: AdapterSpec) -> Pipeline | None:
    """A pipeline with the transformers, block lists and schedulers that an adapter names.

    Returns:
        The pipeline; None where it would be large, or a path leads through another's end.
    """
    pipeline = Pipeline()
    layouts = {path: _layout(item) for path, item in spec.transformers.items()}
    if not layouts or sum(map(len, layouts.values())) > MOST:
        return None
    try:
        for path, lists in layouts.items():
            made = _transformer(spec.transformers[path], lists)
            _put(pipeline, path, made)
            pipeline.transformers.append(made)
        paths = [spec.scheduler, *(item.scheduler for item in spec.transformers.values())]
        for path in dict.fromkeys(item for item in paths if item is not None):
            pipeline.schedulers.append(Scheduler())
            _put(pipeline, path, pipeline.schedulers[-1])
        if None in paths:
            pipeline.schedulers.append(Scheduler())
            _put(pipeline, "scheduler", pipeline.schedulers[-1])
    except (AttributeError, TypeError, KeyError):
        return None
    return pipeline


def run(pipeline: Pipeline, steps: int) -> None:
    """One generation."""
    for scheduler in pipeline.schedulers:
        scheduler.set_timesteps(steps)
    sample = _STATE
    for timestep in pipeline.schedulers[0].timesteps:
        for transformer in pipeline.transformers:
            named = dict.fromkeys(transformer.timesteps, timestep)
            output = transformer(sample, _STATE, **named)
        for scheduler in pipeline.schedulers:
            sample = scheduler.step(output, timestep, sample)


def state(pipeline: Pipeline) -> list[Any]:
    """What enabling may touch and disabling restores."""
    modules = [part for item in pipeline.transformers for part in item.modules()]
    parts = [pipeline, *pipeline.schedulers, *modules]
    return [
        {k: id(v) for k, v in vars(part).items() if k not in ("timesteps", "training")}
        for part in parts
    ]


class Fitting(torch.nn.Module):
    """A transformer with block lists at the paths that an adapter names."""

    def __init__(self, lists: Mapping[str, BlockList]) -> None:
        super().__init__()
        self.timesteps = ["timestep"]
        for path, declared in lists.items():
            _put(self, path, torch.nn.ModuleList(_block(declared) for _ in range(BLOCKS)))


def _transformer(declared: Transformer, lists: Mapping[str, BlockList]) -> Fitting:
    """A transformer whose forward loops over the lists, in order, and takes what is named."""
    denoising = declared.denoising
    named = [*((denoising and denoising.when) or ()), *((denoising and denoising.unless) or ())]
    own = dict.fromkeys(["timestep", declared.timestep or "timestep", *named])
    more = [name for name in own if name not in ("hidden_states", "encoder_hidden_states", "self")]
    lines = ["hidden_states", "encoder_hidden_states", *(f"{name}=None" for name in more)]
    lines = [f"def forward(self, {', '.join(lines)}):"]
    for path, item in lists.items():
        pattern, given = PATTERNS[item.pattern], "hidden_states"
        if pattern.takes_encoder:
            given += ", encoder_hidden_states"
        digits = any(map(str.isdecimal, path.split(".")))
        found = f"self.get_submodule({path!r})" if digits else f"self.{path}"
        lines.append(f"    for block in {found}:")
        if item.returns is not None:
            lines += [f"        output = block({given})"]
            lines += [f"        hidden_states = output[{item.returns.hidden_states!r}]"]
            continue
        taken = ["hidden_states", "encoder_hidden_states"][: 2 if pattern.returns_encoder else 1]
        taken = taken if pattern.hidden_first else taken[::-1]
        lines.append(f"        {', '.join(taken)} = block({given})")
    lines.append("    return hidden_states")
    name = (declared.transformer_class or ("Transformer",))[0]
    made: Fitting = _class_of(Fitting, name, "\n".join(lines))(lists)
    made.timesteps = [name for name in ("timestep", declared.timestep) if name in more]
    return made


def _block(declared: BlockList) -> torch.nn.Module:
    """A block whose arguments, and what it returns, are as an adapter says."""
    roles, returns, form = declared.roles, declared.returns, PATTERNS[declared.pattern]
    hidden = (roles.hidden_states if roles else None) or "hidden_states"
    encoder = (roles and (roles.state or roles.encoder_hidden_states)) or "encoder_hidden_states"
    taken = [hidden, encoder][: 2 if form.takes_encoder else 1]
    lines = [f"def forward(self, {', '.join(taken)}, temb_=None):"]
    lines += [f"    {hidden} = {hidden} * 1.1 + 0.1"]
    if returns is not None:
        keys = returns.hidden_states, returns.encoder_hidden_states
        if any(isinstance(key, str) for key in keys):
            lines.append(f"    return {{{keys[0]!r}: {hidden}, {keys[1]!r}: {taken[-1]}}}")
        else:
            places = {keys[1]: taken[-1], keys[0]: hidden}
            size = max(key for key in keys if isinstance(key, int)) + 1
            found = [places.get(place, "None") for place in range(size)]
            lines.append(f"    return ({', '.join(found)},)")
    else:
        if form.returns_encoder and not form.takes_encoder:
            lines.append(f"    {encoder} = {hidden} * 0.5")
        both = [hidden, encoder][: 2 if form.returns_encoder else 1]
        lines.append(f"    return {', '.join(both if form.hidden_first else both[::-1])}")
    name = (declared.block_class or ("Block",))[0]
    made: torch.nn.Module = _class_of(torch.nn.Module, name, "\n".join(lines))()
    return made


#: Classes by their bases, names and the sources of their forwards.
_CLASSES: dict[tuple[type, str, str], Any] = {}


def _class_of(base: type, name: str, source: str) -> Any:
    """A class whose forward has this source, which can be read as that of any other."""
    key = base, name, source
    if key not in _CLASSES:
        if len(_CLASSES) >= 256:
            _CLASSES.clear()
            linecache.clearcache()
        file = f"<model {len(_CLASSES)}>"
        space: dict[str, Any] = {}
        try:
            exec(compile(source, file, "exec"), space)
        except SyntaxError as error:  # names that nothing can have
            raise AttributeError(source) from error
        linecache.cache[file] = len(source), None, source.splitlines(True), file
        _CLASSES[key] = type(
            name.replace("*", "") or "Module", (base,), {"forward": space["forward"]}
        )
    return _CLASSES[key]


def _layout(declared: Transformer) -> dict[str, BlockList]:
    """The block lists of one of a transformer's layouts."""
    if declared.blocks is not None:
        return dict(declared.blocks)
    return dict(declared.variants[0].blocks) if declared.variants else {}


def _put(root: Any, path: str, value: Any) -> None:
    """Set what a dotted path leads to, and what it leads through."""
    *way, last = path.split(".")
    for part in way:
        if not hasattr(root, part):
            inner = torch.nn.Module() if isinstance(root, torch.nn.Module) else Pipeline()
            setattr(root, part, inner)
        root = getattr(root, part)
    if hasattr(root, last):
        raise AttributeError(path)
    setattr(root, last, value)
