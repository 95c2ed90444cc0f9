"""``cachedit_yaml.check``: what the command ``check`` proves, on a live pipeline of one's own."""

from __future__ import annotations

import gc
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

import cachedit_yaml
from cachedit_yaml.errors import ConfigError, ProofError
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.probe.pipelines import quiet, tensor_of
from cachedit_yaml.probe.prove import Claim, prove
from cachedit_yaml.probe.recipe import PLAIN, Recipe
from cachedit_yaml.probe.replay import ADVICE
from cachedit_yaml.runtime.handle import Handle

if TYPE_CHECKING:
    from cachedit_yaml.api import AdapterSource

_RANDOM: Final = (
    "two uncached calls differ, so nothing can be compared: make generators inside of the "
    "call, and switch off what is not deterministic"
)
#: What to do about a claim that does not hold.
_ADVICE: Final[Mapping[str, str]] = {
    "resolves": "correct the adapter; `cachedit-yaml validate --deep` finds more at once",
    "exact": "look at what the loop does between its blocks: `cachedit-yaml check --explain`",
    "hits": "the call needs at least two denoising steps, each with its own timestep",
    "values": ADVICE,
    "native": "pass execution='loop', which is the default",
    "batch": "pass cache_config={'batch': 'worst'}, and report it",
    "restored": "report it, with the class of the pipeline",
    "freed": "report it, with the class of the pipeline",
}


@dataclass(frozen=True)
class Proof:
    """What was tried on a live pipeline.

    Attributes:
        adapter: the adapter's name.
        pipeline: the class of the pipeline or of the transformer.
        claims: what was claimed, in turn; those after one that failed may be missing.
    """

    adapter: str
    pipeline: str
    claims: tuple[Claim, ...]

    @property
    def failed(self) -> tuple[Claim, ...]:
        """The claims that do not hold."""
        return tuple(item for item in self.claims if item.verdict == "failed")

    @property
    def broken(self) -> tuple[Claim, ...]:
        """Those of them that count where caching runs as it does by default, in the model's loop.

        Native execution is asked for by name, and where it differs cache-dit's own code does.
        """
        return tuple(item for item in self.failed if item.name != "native")

    def __str__(self) -> str:
        words = {"proved": "yes", "failed": "NO", "not allowed": "-"}
        lines = [f"{self.adapter}: {self.pipeline}"]
        for item in self.claims:
            advice = [_ADVICE[item.name]] if item in self.failed else []
            first, *more = [*item.detail.split("\n"), *advice]
            lines.append(f"  {item.name:<9} {words[item.verdict]:<4} {first}".rstrip())
            lines += [f"{'':17}{text.strip()}" for text in more]
        return "\n".join(lines)

    def require(self) -> None:
        """Do nothing where everything holds.

        Raises:
            ProofError: something does not; names each claim, what is otherwise and what to do.
        """
        if self.failed:
            raise ProofError(str(self))


class _Live:
    """A pipeline, and the call that somebody gave."""

    def __init__(
        self, spec: AdapterSpec, target: Any, call: Callable[[], Any], steps: int | None
    ) -> None:
        self.spec = spec
        self.target = target
        self.recipe = Recipe(type(target).__name__, None, {}, {}, {}, {}, {PLAIN: {}}, "", None, ())
        self._call = call
        self._steps = steps

    def begin(self, handle: Handle, steps: int = 0) -> None:
        """Tell the number of steps, where the caller does."""
        if self._steps is not None:
            handle.refresh(self._steps)

    def run(self, case: str = PLAIN, steps: int = 0) -> torch.Tensor:
        """Call, from the same random numbers each time."""
        with _same_numbers(), torch.no_grad(), quiet():
            return tensor_of(self._call()).detach().clone()


def check(
    pipeline: Any,
    adapter: AdapterSource | None = None,
    call: Callable[[], Any] | None = None,
    *,
    steps: int | None = None,
    freed: bool = True,
) -> Proof:
    """Prove on a live pipeline that caching is exact and leaves nothing behind.

    It calls the pipeline about eight times, so few steps (four) and small sizes are enough. What is
    claimed: the adapter ``resolves``; with no hit the output is ``exact``, bit for bit; a step that
    ``hits`` runs exactly F + B blocks of each list, and has the ``values`` that would be computed
    from the same arguments (which cannot be said of a model that draws random numbers); cache-dit's
    own (``native``) execution gives the same, where it is allowed; each sample of a ``batch`` gets
    what it gets alone; after disabling everything is ``restored``, and no tensor of ours is left
    (``freed``).

    Args:
        pipeline: a live pipeline, or a transformer alone; not cached.
        adapter: name, path or data; None finds it by the class.
        call: runs it once, as ``lambda: pipe("a cat", num_inference_steps=4)``; what it returns is
            compared (tensors, pictures, and mappings, sequences and dataclasses of them). The
            global random numbers are the same for each call; generators have to be made inside.
        steps: denoising steps of a call, for a transformer alone whose calls do not tell them.
        freed: look for tensors that are left too. That means to look at every object there is,
            which in CPython breaks tuples that other threads are building: False where some run.

    Raises:
        ConfigError: there is no call, or the pipeline is cached already.
        AdapterNotFoundError: no adapter serves the class.
        AdapterError: the adapter is wrong.
        RefusedError: it says that the pipeline must not be cached.
    """
    if call is None:
        raise ConfigError("check() needs a call: call=lambda: pipe(..., num_inference_steps=4)")
    if cachedit_yaml.handle_of(pipeline) is not None:
        raise ConfigError("check() needs the pipeline uncached: disable its handle first")
    if adapter is None:
        spec = cachedit_yaml.find_adapter(pipeline)
    else:
        spec = cachedit_yaml.load_adapter(adapter)
    if spec.refuse is not None:
        # The same words as where it is enabled.
        cachedit_yaml.compile_adapter(spec, pipeline)
    live = _Live(spec, pipeline, call, steps)
    name = type(pipeline).__name__
    try:
        first = live.run()
        before = _tensors() if freed else 0
        wrong = None if _same(live.run(), first) else _RANDOM
    except Exception as error:  # anything that the call raises
        wrong = f"the uncached call raised {type(error).__name__}: {error}"
    if wrong is not None:
        return Proof(spec.name, name, (Claim("exact", "failed", wrong),))
    after = _tensors() if freed else 0
    claims = prove(live, PLAIN)
    if freed and not any(item.verdict == "failed" for item in claims):
        claims.append(_freed(_tensors() - after, own_growth=after - before))
    return Proof(spec.name, name, tuple(claims))


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two outputs are the same, where what is no number may stand in both."""
    return torch.equal(one.isnan(), other.isnan()) and torch.equal(
        one.nan_to_num(), other.nan_to_num()
    )


def _freed(grown: int, own_growth: int) -> Claim:
    if own_growth > 0:
        return Claim("freed", "not allowed", "the uncached call itself leaves tensors behind")
    if grown > 0:
        return Claim("freed", "failed", f"{grown} tensors are left after disabling")
    return Claim("freed", "proved")


def _tensors() -> int:
    gc.collect()
    kinds = Counter(map(type, gc.get_objects()))
    return sum(count for kind, count in kinds.items() if issubclass(kind, torch.Tensor))


@contextmanager
def _same_numbers() -> Iterator[None]:
    """The same global random numbers inside, and outside those of before."""
    state, numbers = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            random.seed(0)
            np.random.seed(0)
            torch.manual_seed(0)
            yield
    finally:
        random.setstate(state)
        np.random.set_state(numbers)
