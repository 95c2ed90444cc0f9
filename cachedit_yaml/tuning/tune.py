"""``cachedit_yaml.tune``: trace a few calls, check the best settings on other seeds, choose."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cachedit_yaml.api import AdapterSource, find_adapter, load_adapter
from cachedit_yaml.errors import CacheRuntimeError, ConfigError
from cachedit_yaml.generating.progress import Start
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.tuning import search
from cachedit_yaml.tuning.session import Session
from cachedit_yaml.tuning.surrogate import Candidate, Surrogate
from cachedit_yaml.tuning.targets import PROFILES, Measured, Target, choose, promising

if TYPE_CHECKING:
    from PIL.Image import Image

    from cachedit_yaml.generating.timeline import Panel
    from cachedit_yaml.tuning.record import Array

#: Uncached generations of the checked calls that everything may cost.
BUDGET: Final = 10.0
#: Runs for one target.
_MOST: Final = 6
#: Shares of computed steps that masks are searched for.
_SHARES: Final = (0.1, 0.13, 0.16, 0.2, 0.24, 0.28, 0.32, 0.36, 0.4, 0.45, 0.5, 0.6)


@dataclass(frozen=True)
class Tuning:
    """What was found.

    Attributes:
        adapter: the adapter that was tuned.
        model: the model's name.
        steps: denoising steps.
        samples: how many samples were checked.
        frontier: everything that was run, from cheap to dear; the adapter's own profiles too.
        profiles: what was chosen, by profile.
        missed: targets that nothing reached.
        notes: what else there is to say, one sentence each.
        device: what it ran on.
        worst: by name and key of what was run, the uncached picture and the worst one
            (``[2 x h x w x 3]``, small), where there are pictures.
        timelines: which blocks ran under the chosen settings, by their key.
    """

    adapter: AdapterSpec
    model: str
    steps: int
    samples: int
    frontier: tuple[Measured, ...]
    profiles: Mapping[str, Measured]
    missed: tuple[Target, ...]
    notes: tuple[str, ...]
    device: str
    worst: Mapping[tuple[str, str], Array] = field(default_factory=dict, repr=False)
    timelines: Mapping[str, Panel] = field(default_factory=dict, repr=False)

    @property
    def names(self) -> dict[str, str]:
        """The profiles that settings were chosen for, by the settings' key."""
        found: dict[str, list[str]] = {}
        for name, item in self.profiles.items():
            found.setdefault(item.key, []).append(name)
        return {key: ", ".join(names) for key, names in found.items()}

    def text(self) -> str:
        """The profiles as YAML."""
        from cachedit_yaml.tuning.write import profile_text

        return "profiles:\n" + "".join(
            profile_text(name, item, self) for name, item in self.profiles.items()
        )

    def write(
        self,
        path: str | os.PathLike[str],
        *,
        force: bool = False,
        adapters: Sequence[str | Path] = (),
    ) -> list[str]:
        """Write the profiles into an adapter file; comments and order stay.

        A file that does not exist yet is made, and extends the adapter that was tuned.

        Args:
            path: the file.
            force: also replace profiles that it has.
            adapters: more folders or files to look up what it extends.

        Returns:
            What changed, one sentence for each profile.

        Raises:
            ConfigError: it has such a profile, and ``force`` is not given.
            AdapterError: the file is wrong.
        """
        from cachedit_yaml.registry.registry import Registry
        from cachedit_yaml.tuning.write import write

        return write(Path(path), self, Registry.load(extra=adapters), force=force)

    def draw(self) -> Image:
        """The frontier: cost against quality."""
        from cachedit_yaml.tuning.report import draw_frontier

        return draw_frontier(self)

    def page(self) -> str:
        """The frontier, the worst pictures and the timelines as one HTML file."""
        from cachedit_yaml.tuning.report import draw_page

        return draw_page(self)


def tune(
    pipeline: Any,
    calls: Sequence[Mapping[str, Any]],
    targets: Sequence[Target | str] | None = None,
    *,
    adapter: AdapterSource | None = None,
    masks: bool = False,
    budget: float = BUDGET,
    seed: int = 0,
    model: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    resume: bool = False,
    start: Start | None = None,
) -> Tuning:
    """Find settings for a live pipeline by measuring.

    A few calls are traced, all settings are scored on the trace, and the best of them are run on
    seeds that they were not proposed from, where the worst quarter of the samples decides.

    Args:
        pipeline: a live pipeline, not cached; it is as before afterwards.
        calls: the arguments of its calls, without a generator; all with the same number of steps.
        targets: what is wanted, such as ``"psnr=35"``, ``"fast:blocks=0.25"``, ``"speed=3"``;
            default: the profiles quality, balanced and fast.
        adapter: name, path or data; None finds it by the pipeline's class.
        masks: also static masks with F = 0, which are better and fit that number of steps only.
        budget: how many uncached generations of all calls it may cost.
        seed: of the first call; checks use others.
        model: its name, for people.
        folder: keeps what was measured, so that ``resume`` can go on.
        resume: go on with what the folder holds.
        start: shows the progress of a task.

    Raises:
        ConfigError: the calls cannot be tuned on, or a target says nothing.
        CacheditYamlError: the adapter does not fit; see :mod:`cachedit_yaml.errors`.
    """
    wanted = [Target.parse(item) if isinstance(item, str) else item for item in targets or PROFILES]
    names = [item.profile for item in wanted]
    if len(set(names)) < len(names):
        raise ConfigError("two targets have the same profile; give them names, as fast:psnr=35")
    spec = find_adapter(pipeline) if adapter is None else load_adapter(adapter)
    session = Session(
        pipeline,
        spec,
        calls,
        seed=seed,
        model=model,
        start=start,
        budget=budget,
        folder=None if folder is None else Path(folder),
        resume=resume,
    )
    session.require_determinism()
    surrogate = Surrogate(session.trace())
    pool = _pool(surrogate, masks)
    if not pool:
        raise CacheRuntimeError(
            "nothing to tune: no step of the traced calls could be served from the cache"
            + "".join(f"\n  - {note}" for note in session.notes)
        )
    if targets is None:
        # Few steps leave less to skip: the cheapest that there is takes the place of a quarter.
        least = min(item.blocks for item in pool)
        wanted = [
            item._replace(value=max(item.value, least + 0.06 * place))
            for item, place in zip(wanted, (2, 1, 0), strict=True)
        ]
    session.require_reference()
    session.measure_profiles()
    _check(session, pool, wanted)
    ran = session.measured
    found = [item for item in ran if not item.name]
    chosen = {item.profile: choose(item, found) for item in wanted}
    if targets is None and found:
        cheapest = min(found, key=lambda item: item.blocks)
        chosen = {name: item or cheapest for name, item in chosen.items()}
    speeds = session.time([item for item in chosen.values() if item is not None])
    ran = [replace(item, speed=speeds.get(item.key, item.speed)) for item in ran]
    by_key = {item.key: item for item in ran}
    return Tuning(
        adapter=spec,
        model=session.model,
        steps=session.steps,
        samples=session.samples,
        frontier=tuple(sorted(ran, key=lambda item: item.blocks)),
        profiles={name: by_key[item.key] for name, item in chosen.items() if item is not None},
        missed=tuple(item for item in wanted if chosen[item.profile] is None),
        notes=tuple(dict.fromkeys(session.notes)),
        device=session.device,
        worst=session.store.pictures,
        timelines=session.timelines,
    )


def _pool(surrogate: Surrogate, masks: bool) -> list[Candidate]:
    """What may be worth a run: of those that do the same, and of those that are no better, one."""
    grid = search.settings(surrogate)
    found: dict[tuple[float, float], Candidate] = {}
    for item in grid:
        found.setdefault((round(item.blocks, 3), float(f"{item.error:.2g}")), item)
    # Near the front too: the trace orders what it proposes, but not to the last dB.
    best = search.front(found.values())
    near = [
        item
        for item in found.values()
        if any(item.error <= 1.5 * one.error and item.blocks <= one.blocks + 0.02 for one in best)
    ]
    return [*near, *(search.masks(surrogate, _SHARES) if masks else [])]


def _check(session: Session, pool: Sequence[Candidate], wanted: Sequence[Target]) -> None:
    """Run what is promising for each target in turn, one at least, as far as the budget goes."""
    left = list(wanted)
    for turn in range(_MOST):
        for target in list(left):
            item = promising(target, pool, session.measured)
            if item is None or (turn and session.spent >= session.budget):
                left.remove(target)
                continue
            session.measure(item.settings, error=item.error, key=item.key)
