"""A plan as text for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cachedit_yaml.language.cache_spec import OWN
from cachedit_yaml.yaml.diagnostics import plain

if TYPE_CHECKING:
    from cachedit_yaml.compiler.plan import Plan
    from cachedit_yaml.compiler.settings import Resolved


def describe(plan: Plan, num_inference_steps: int | None) -> str:
    """What is cached and how, and where each setting that is not a default came from."""
    spec = plan.spec
    lines = [f"adapter {spec.name}" + (f" ({spec.source})" if spec.source else "")]
    if plan.profile is not None:
        lines.append(f"profile {plan.profile}")
    for transformer in plan.transformers:
        lines.append(
            f"{transformer.path}: {type(transformer.module).__name__}, {transformer.variant}"
        )
        for item in transformer.lists:
            block = type(item.blocks[0]).__name__
            about = f"{len(item.blocks)} x {block}, {item.pattern.name}"
            about += f", follows {item.follows}" if item.follows else ""
            lines.append(f"  {item.path}: {about}")
            lines += _settings(item.layers.resolve(num_inference_steps), item.follows is not None)
    lines += [f"{path}: absent" for path in plan.absent]
    lines.append(f"step split: {_split(plan)}")
    guidance = {None: "observed in the run", True: "two forwards a step", False: "one a step"}
    lines.append(f"guidance: {guidance[plan.separate_cfg]}")
    lines += [f"sets pipeline.{name} = {value!r}" for name, value in plan.flags.items()]
    lines += [f"note: {note}" for note in plan.notes]
    return "\n".join(map(plain, lines))


def _settings(resolved: Resolved, follows: bool) -> list[str]:
    rows = []
    shown = {
        "Fn_compute_blocks",
        "Bn_compute_blocks",
        "residual_diff_threshold",
        "max_warmup_steps",
    }
    for name, value in resolved.values.items():
        if follows and name not in ("Fn_compute_blocks", *OWN):
            continue  # those of the list that it follows
        origin = resolved.origins[name]
        if name in shown or not origin.startswith("cache-dit"):
            rows.append((name, _plain(value), origin))
    width = max(len(name) for name, _, _ in rows)
    return [f"    {name:<{width}}  {value}  ({origin})" for name, value, origin in rows]


def _plain(value: object) -> str:
    given = getattr(value, "preset", None) or getattr(value, "type", None)
    return str(given) if given else str(value)


def _split(plan: Plan) -> str:
    split = plan.split
    if split is None:
        return "none, every transformer runs in every step it is called in"
    if split.boundary is not None:
        if plan.ratio is None:
            return f"no boundary ratio: all steps belong to {split.boundary.high}"
        return (
            f"timesteps from {plan.ratio:g} of the schedule up to {split.boundary.high}, "
            f"the others to {split.boundary.low}"
        )
    shares = split.fraction or split.count or {}
    return ", ".join(f"{name} {share:g}" for name, share in shares.items())
