"""What several commands say of an adapter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cachedit_yaml.cli.output import count
from cachedit_yaml.language.cache_spec import Measured
from cachedit_yaml.language.spec import AdapterSpec


def some(names: Sequence[str], limit: int = 3) -> str:
    """The first names and how many more there are: some adapters serve a dozen pipelines."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def measured_settings(spec: AdapterSpec) -> Iterator[tuple[str, Measured]]:
    """The profiles whose settings were measured, and ``cache`` where those without one were."""
    if spec.cache.measured is not None:
        yield "cache", spec.cache.measured
    for name, profile in spec.profiles.items():
        if profile.measured is not None:
            yield name, profile.measured


def measured(spec: AdapterSpec, profile: str | None = None, *, changed: bool = False) -> str:
    """Where the settings in force come from.

    Args:
        spec: the adapter.
        profile: one of its profiles.
        changed: whether settings of the caller win over them.
    """
    found = dict(measured_settings(spec)).get(profile or "cache")
    if found is None:
        return "not measured on this model: `cachedit-yaml tune`"
    if changed:
        return f"not measured with these settings, without them {_measured(found)}"
    return _measured(found)


def _measured(found: Measured) -> str:
    size = f", {count(found.prompts, 'prompt')}" if found.prompts is not None else ""
    numbers = []
    if found.psnr is not None:
        quality = {"": found.psnr.pooled, "mean ": found.psnr.mean, "worst ": found.psnr.worst}
        said = [f"{name}{value:.1f} dB" for name, value in quality.items() if value is not None]
        numbers.append(f"PSNR {', '.join(said)}")
    if found.ssim is not None:
        numbers.append(f"SSIM {found.ssim:.3f}")
    if found.blocks is not None:
        numbers.append(f"{100 * found.blocks:.0f} % of the blocks computed")
    versions = [f"{name} {version}" for name, version in (found.versions or {}).items()]
    where = [text for text in (found.device, *versions, found.date) if text]
    result = f": {', '.join(numbers)}" if numbers else ""
    about = f" ({', '.join(where)})" if where else ""
    return f"measured on {found.model}, {count(found.steps, 'step')}{size}{result}{about}"
