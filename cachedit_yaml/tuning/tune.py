"""``cachedit_yaml.tune``: trace a few calls, check the best settings on other seeds, choose."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cachedit_yaml.api import AdapterSource, find_adapter, load_adapter
from cachedit_yaml.errors import CacheRuntimeError, ConfigError
from cachedit_yaml.generating.progress import Start
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.tuning import masks as masked
from cachedit_yaml.tuning import search
from cachedit_yaml.tuning.candidates import Candidate
from cachedit_yaml.tuning.session import Session
from cachedit_yaml.tuning.surrogate import Surrogate
from cachedit_yaml.tuning.targets import PROFILES, Measured, Target, choose, promising

if TYPE_CHECKING:
    from PIL.Image import Image

    from cachedit_yaml.generating.samples import Array
    from cachedit_yaml.generating.timeline import Panel

#: Uncached generations of the checked calls that everything may cost.
BUDGET: Final = 10.0
#: Runs for one target; with masks more, as each shows where to look next.
_MOST: Final = 6
_MOST_MASKS: Final = 16
#: Shares of computed steps that masks are searched for, beside those that are asked for.
_SHARES: Final = (0.1, 0.13, 0.16, 0.2, 0.24, 0.28, 0.32, 0.36, 0.4, 0.45, 0.5, 0.6)


@dataclass(frozen=True)
class Tuning:
    """What was found.

    Attributes:
        adapter: the adapter that was tuned.
        model: the model's name.
        pipeline: the class of its pipeline.
        what: what is compared and how, in one sentence without a full stop.
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
    pipeline: str
    what: str
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

    @property
    def title(self) -> str:
        """What was tuned, for people."""
        return f"{self.pipeline}, {self.steps} steps"

    @property
    def others(self) -> tuple[str, ...]:
        """The names of what was measured beside PSNR."""
        return tuple(dict.fromkeys(x for item in self.frontier for x in item.likeness.others()))

    def text(self) -> str:
        """The profiles as YAML."""
        from cachedit_yaml.tuning.write import text_of

        return text_of(self)

    def write(
        self,
        path: str | os.PathLike[str],
        *,
        force: bool = False,
        dry_run: bool = False,
        adapters: Sequence[str | Path] = (),
    ) -> list[str]:
        """Write the profiles into an adapter file; comments and order stay.

        A file that does not exist yet is made, and extends the adapter that was tuned.

        Args:
            path: the file.
            force: also replace profiles that it has.
            dry_run: change nothing, and say what would change.
            adapters: more folders or files to look up what it extends.

        Returns:
            What changed, one sentence for each profile.

        Raises:
            ConfigError: it has such a profile, and ``force`` is not given.
            AdapterError: the file is wrong.
        """
        from cachedit_yaml.registry.registry import Registry
        from cachedit_yaml.tuning.write import write

        return write(Path(path), self, Registry.load(extra=adapters), force=force, dry_run=dry_run)

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
    pool = _pool(surrogate, wanted, masks)
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
    _check(session, surrogate if masks else None, pool, wanted)
    chosen = _choose(session, wanted, anyway=targets is None)
    return Tuning(
        adapter=spec,
        model=session.model,
        pipeline=type(pipeline).__name__,
        what=session.what,
        steps=session.steps,
        samples=len(session.reference),
        frontier=tuple(sorted(session.measured, key=lambda item: item.blocks)),
        profiles=chosen,
        missed=tuple(item for item in wanted if item.profile not in chosen),
        notes=tuple(dict.fromkeys(session.notes)),
        device=session.device,
        worst=session.store.pictures,
        timelines=session.timelines,
    )


def _choose(session: Session, wanted: Sequence[Target], *, anyway: bool) -> dict[str, Measured]:
    """The best for each target, timed: as often as a speed that was not leads to another choice.

    Args:
        session: what was run.
        wanted: the targets.
        anyway: the cheapest of all takes the place of what reaches none.
    """
    while True:
        found = [item for item in session.measured if not item.name]
        cheapest = min(found, key=lambda item: item.blocks) if anyway and found else None
        best = {item.profile: choose(item, found) or cheapest for item in wanted}
        chosen = {name: item for name, item in best.items() if item is not None}
        new = [item for item in chosen.values() if not item.timed]
        if not new:
            return chosen
        session.time(new)


def _pool(surrogate: Surrogate, wanted: Sequence[Target], masks: bool) -> list[Candidate]:
    """What may be worth a run."""
    grid = search.settings(surrogate)
    best = [item for items in search.fronts(grid).values() for item in items]
    found = search.near_fronts([*grid, *search.refined(surrogate, best)])
    shares = {*_SHARES, *(item.value for item in wanted if item.kind == "blocks")}
    for order in search.ORDERS if masks else ():
        found += masked.masks(surrogate, shares, order)
    return found


def _check(
    session: Session,
    surrogate: Surrogate | None,
    pool: Sequence[Candidate],
    wanted: Sequence[Target],
) -> None:
    """Run what is promising for each target in turn, one at least, as far as the budget goes.

    Args:
        session: keeps what was run.
        surrogate: scores the masks beside the best one that was run; None for no masks.
        pool: what may be worth a run.
        wanted: the targets.
    """
    candidates = {item.key: item for item in pool}
    looked: set[str] = set()
    left = list(wanted)
    for turn in range(_MOST if surrogate is None else _MOST_MASKS):
        for target in list(left):
            item = promising(target, list(candidates.values()), session.measured)
            if item is None or (turn and session.spent >= session.budget):
                left.remove(target)
                continue
            session.measure(item.settings, error=item.error, key=item.key)
            best = choose(target, [item for item in session.measured if not item.name])
            if surrogate and best and best.settings["scm"] and best.key not in looked:
                looked.add(best.key)
                near = masked.beside(surrogate, best.settings)
                candidates |= {item.key: item for item in near}
