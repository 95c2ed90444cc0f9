"""One generation: its steps, and how they divide among the transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from cachedit_yaml.compiler.plan import ListPlan, Plan, TransformerPlan
    from cachedit_yaml.compiler.settings import Layers
    from cachedit_yaml.runtime.choice import Choice
    from cachedit_yaml.runtime.timesteps import Moment

#: Why nothing of a generation is cached whose request says so.
OFF = "its request wants no cache"
#: Why a forward runs uncached that may belong to either of two requests.
MIXED = (
    "two requests run in turns and cannot be told apart; put each into "
    "`with handle.request(name):`, or give each a pipeline with a scheduler of its own"
)


class Generation:
    """One generation, as one thread runs it.

    Attributes:
        tick: steps that have ended.
        total: steps that it executes, or None where nobody told.
        shares: executed steps of each transformer, by path; None where unknown.
        transformers: what each transformer keeps, by path.
        by_scheduler: the pipeline's scheduler counts its steps.
        failed: why nothing of this generation is used again; None while all is well.
        blind: nothing tells its steps.
        ended: how it ended; None while it goes on, as far as anybody knows.
        what: whose it is, for people: a pipeline's class, a request's name.
        first: the first of its timesteps, where they are known.
        after: it began with a forward after the last step of another, or at the last timestep of a
            schedule, without its scheduler.
        cut_unknown: nobody has told where among the scheduler's timesteps its loop begins.
        choice: what its request wants of the cache; None for what the plan says.
    """

    def __init__(
        self, total: int | None, shares: dict[str, int | None], by_scheduler: bool
    ) -> None:
        self.tick = 0
        self.total = total
        self.shares = shares
        self.transformers: dict[str, Any] = {}
        self.by_scheduler = by_scheduler
        self.failed: str | None = None
        self.blind = False
        self.ended: str | None = None
        self.what = ""
        self.first: torch.Tensor | float | None = None
        self.after = False
        self.cut_unknown = False
        self.choice: Choice | None = None

    @property
    def over(self) -> bool:
        """Whether it has run to an end: not failed, where what is left runs uncached."""
        return self.ended is not None and self.failed is None

    def end_step(self) -> None:
        """One more step has ended."""
        self.tick += 1
        if self.total is not None and self.tick >= self.total:
            self.end("finished")

    def end(self, how: str) -> None:
        """It is over: every cached tensor goes, the statistics stay."""
        self.ended = self.ended or how
        self.release()

    def fail(self, why: str) -> None:
        """What is left of it runs uncached."""
        self.failed = self.failed or why
        self.end("failed")

    def reason_against(self, path: str, step: int) -> str | None:
        """Why a forward has to run uncached, or None.

        Args:
            path: the transformer.
            step: index of the step within its share.
        """
        if self.failed is not None:
            return self.failed
        if self.choice is not None and self.choice.off:
            return OFF
        if self.blind:
            return (
                "nothing tells its steps: name the argument that carries the timestep in the "
                "adapter, or declare guidance there and call handle.refresh(num_inference_steps)"
            )
        if self.total is not None and self.tick >= self.total:
            return "the schedule had ended"
        share = self.shares.get(path)
        if share is not None and step >= share:
            return "it is called in more steps than the adapter's step_split says"
        return None

    def layers(self, path: str, plan: ListPlan) -> Layers:
        """The settings of a block list of a transformer."""
        found = None if self.choice is None else self.choice.layers.get((path, plan.path))
        return plan.layers if found is None else found

    def masked(self, plan: TransformerPlan) -> bool:
        """Whether a list has a step computation mask, which is made for a number of steps."""
        found = (self.layers(plan.path, item) for item in plan.lists)
        return any(item.resolve(None).scm is not None for item in found)

    def begins_again(self, now: Moment | None) -> bool:
        """Whether a loop runs once more over the timesteps that it was given once, for a chunk.

        Args:
            now: the timestep of its forward.
        """
        return now is not None and self.first is not None and now.largest == float(self.first)

    def forget(self) -> None:
        """Drop what is cached; what is left of it begins with a computed step."""
        for state in self.transformers.values():
            state.forget()

    def release(self) -> None:
        """Drop every cached tensor; the statistics stay."""
        for state in self.transformers.values():
            state.release()


def share_steps(
    plan: Plan, timesteps: torch.Tensor | None, total: int | None, ratio: float | None
) -> dict[str, int | None]:
    """How many of the executed steps each transformer runs.

    Args:
        plan: the step split and the transformers.
        timesteps: the executed timesteps ``[n]``, where they are known.
        total: number of executed steps, or None.
        ratio: the boundary ratio, where the split has a boundary; None: all steps are noisy.
    """
    paths = [transformer.path for transformer in plan.transformers]
    shares: dict[str, int | None] = dict.fromkeys(paths, total)
    split = plan.split
    if split is None or total is None:
        return shares
    if split.boundary is not None:
        boundary = split.boundary
        if ratio is None:
            return {**shares, boundary.high: total, boundary.low: 0}
        if timesteps is None:
            high: int | None = None
        else:
            config = getattr(plan.scheduler, "config", {})
            edge = ratio * float(config.get("num_train_timesteps", 1000))
            # As the pipelines do: torch rounds the edge to the timesteps' precision.
            high = int((timesteps >= edge).sum())
        low = None if high is None else total - high
        return {**shares, boundary.high: high, boundary.low: low}
    if split.fraction is not None:
        left = total
        names = list(split.fraction)
        for name in names[:-1]:
            shares[name] = min(left, round(total * split.fraction[name]))
            left -= shares[name] or 0
        shares[names[-1]] = left
    elif split.count is not None:
        left = total
        for name, count in split.count.items():
            if count >= 0:
                shares[name] = min(left, count)
                left -= shares[name] or 0
        for name, count in split.count.items():
            if count < 0:
                shares[name] = left
    return shares
