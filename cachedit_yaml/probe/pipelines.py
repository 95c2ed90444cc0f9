"""What a recipe describes, made and ready to run: a small pipeline, or a transformer alone."""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Final

import numpy as np
import PIL.Image
import torch

from cachedit_yaml.compiler.paths import MISSING, follow
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.probe.classes import ProbeError
from cachedit_yaml.probe.recipe import PLAIN, Recipe
from cachedit_yaml.probe.values import Maker
from cachedit_yaml.runtime.handle import Handle

#: Denoising steps of a call.
STEPS: Final = 4


@contextmanager
def quiet() -> Iterator[None]:
    """Let pass what the libraries deprecate, or do in a deprecated way."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning, UserWarning):
            # Whoever warns: the models call numpy, PIL and torch in deprecated ways too.
            warnings.filterwarnings("ignore", category=category, module=r"(?!cachedit_yaml)")
        yield


class Built:
    """A small pipeline, or a transformer alone, that can be run again and again.

    Attributes:
        recipe: what it was made from.
        target: the pipeline or the transformer, to enable caching on.
    """

    #: What a pipeline is asked for that can be.
    OUTPUT: ClassVar[str] = "latent"

    def __init__(self, spec: AdapterSpec, recipe: Recipe, target: Any) -> None:
        self.spec = spec
        self.recipe = recipe
        self.target = target
        self._parameters = self._takes()

    def _takes(self) -> Collection[str]:
        """The arguments of its call."""
        call: Any = type(self.target).__call__ if self.recipe.pipeline else self.target.forward
        return inspect.signature(call).parameters

    def begin(self, handle: Handle, steps: int = STEPS) -> None:
        """Tell a handle how many steps come, where no scheduler tells it."""
        if not self.recipe.pipeline or handle.plan.scheduler is None:
            handle.refresh(steps)

    def config(self) -> Mapping[str, Any]:
        """The fields that shapes may name: those of its first transformer's config."""
        for path in self.spec.transformers:
            model = self.target if not self.recipe.pipeline else follow(self.target, path)
            if model is MISSING or model is None:
                continue
            part = self.recipe.parts.get(path)
            given = dict(part.config or {}) if part is not None else {}
            own = getattr(model, "config", {})
            return {**given, **(own if isinstance(own, Mapping) else vars(own))}
        return {}

    def arguments(
        self, case: str = PLAIN, steps: int = STEPS, step: int = 0, branch: int = 0
    ) -> dict[str, Any]:
        """Fresh arguments for a call.

        Args:
            case: its name.
            steps: denoising steps.
            step: which of them, for a transformer alone.
            branch: which of its forwards in that step. With two, the first is the plain case.

        Raises:
            ProbeError: an input cannot be made.
        """
        first_of_two = self.recipe.branches(case) > 1 and branch == 0
        specs = {**self.recipe.inputs, **self.recipe.cases.get(PLAIN if first_of_two else case, {})}
        maker = Maker(self.config(), steps, step)
        also = (branch,) if branch else ()
        made = {name: maker.make(value, (name, *also)) for name, value in specs.items()}
        if not self.recipe.pipeline:
            return made
        usual = {
            self.recipe.steps: steps,
            "output_type": self.OUTPUT,
            "generator": torch.Generator().manual_seed(0),
        }
        return {
            **{name: value for name, value in usual.items() if name in self._parameters},
            **made,
        }

    @torch.no_grad()
    def run(self, case: str = PLAIN, steps: int = STEPS, **more: Any) -> torch.Tensor:
        """Run one case from the same random numbers and return its output as one tensor.

        Args:
            case: its name.
            steps: denoising steps.
            **more: arguments that replace those of the case.

        Raises:
            ProbeError: an input cannot be made.
        """
        with torch.random.fork_rng(devices=[]), quiet():
            # Some pipelines sample from the VAE without the generator they were given.
            torch.manual_seed(0)
            if self.recipe.pipeline:
                return tensor_of(self._call({**self.arguments(case, steps), **more}))
            return self._run_alone(case, steps, more)

    def _call(self, arguments: Mapping[str, Any]) -> Any:
        """Call the pipeline once; everything that it returns."""
        return self.target(**arguments)

    def _run_alone(self, case: str, steps: int, more: dict[str, Any]) -> torch.Tensor:
        """Call the transformer in every step, with a timestep that falls."""
        branches = self.recipe.branches(case)
        calls = [(step, branch) for step in range(steps) for branch in range(branches)]
        return torch.stack([self.step(step, steps, case, branch, more) for step, branch in calls])

    @torch.no_grad()
    def step(
        self,
        step: int,
        steps: int = STEPS,
        case: str = PLAIN,
        branch: int = 0,
        more: Mapping[str, Any] | None = None,
    ) -> torch.Tensor:
        """Call the transformer alone once, as in one of a number of steps.

        Args:
            step: which of them.
            steps: denoising steps.
            case: its name.
            branch: which of the forwards in this step.
            more: arguments that replace those of the case.

        Raises:
            ProbeError: an input cannot be made.
        """
        names = {item.timestep or "timestep" for item in self.spec.transformers.values()}
        arguments = {**self.arguments(case, steps, step, branch), **(more or {})}
        for name in names & set(arguments):
            if isinstance(value := arguments[name], torch.Tensor):
                arguments[name] = (value * (1 - step / (2 * steps))).to(value.dtype)
        # A copy: engines may write the next output into the same memory.
        return tensor_of(self.forward(step, arguments)).clone()

    def forward(self, step: int, arguments: Mapping[str, Any]) -> Any:
        """Call the transformer alone in one step."""
        return self.target(**arguments)


def silence(pipeline: Any) -> None:
    """No progress bars, also of the pipelines that a pipeline holds."""
    for inner in (pipeline, *vars(pipeline).values()):
        if callable(getattr(inner, "set_progress_bar_config", None)):
            inner.set_progress_bar_config(disable=True)


def tensor_of(output: Any) -> torch.Tensor:
    """Everything that an output holds as one tensor: its only one, or all of them in a row.

    Raises:
        ProbeError: it holds no numbers at all.
    """
    found = list(_tensors(output))
    if not found:
        raise ProbeError(f"the output is a {type(output).__name__} without tensors or pictures")
    if len(found) == 1:
        return found[0]
    return torch.cat([item.flatten().to(torch.float64) for item in found])


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (np.ndarray, PIL.Image.Image)):
        yield torch.from_numpy(np.array(value))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
    elif dataclasses.is_dataclass(value):
        for item in vars(value).values():
            yield from _tensors(item)
