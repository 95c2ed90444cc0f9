"""What ``cache_config`` says to us."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cachedit_yaml.engines.late import GIVEN
from cachedit_yaml.engines.request import (
    ENGINE,
    OWN,
    SETTINGS,
    calibrator,
    unknown_keys,
    wrong_own,
)
from cachedit_yaml.engines.vllm_omni.given import differing
from cachedit_yaml.errors import ConfigError
from cachedit_yaml.language.spec import CacheSettings
from cachedit_yaml.rules.load import parse_settings

#: Fields of the engine's config that the language says in its own way.
TRANSLATED: Final = (
    "enable_taylorseer",
    "taylorseer_order",
    "scm_steps_mask_policy",
    "scm_steps_policy",
)
#: The run tells this.
IGNORED: Final = ("num_inference_steps",)


@dataclass(frozen=True)
class Request:
    """What the engine's config asks for.

    Attributes:
        adapter: name or path of an adapter, ``engine``, or None to find one by class.
        profile: one of the adapter's profiles, or None.
        execution: ``loop`` or ``native``.
        given: the fields that were given, by name.
        others: those of them that belong to other cache backends of the engine.
        unknown: those that nobody knows.
    """

    adapter: str | None
    profile: str | None
    execution: str
    given: Mapping[str, Any]
    others: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def named(self) -> bool:
        """Whether somebody asked for this package: for an adapter, or for how it is run."""
        return self.adapter not in (None, ENGINE) or self.given.get("execution") is not None

    def settings(self) -> CacheSettings:
        """The settings that win over profile and adapter.

        Raises:
            ConfigError: a key that nobody knows, or a value that it cannot have.
        """
        lines = unknown_keys(self.unknown, (*OWN, *SETTINGS, *TRANSLATED), "cache_config")
        if lines:
            lines.append(f"it takes {', '.join(OWN)}, and the settings of docs/language.md")
            raise ConfigError("\n  ".join(lines))
        values = {name: self.given[name] for name in SETTINGS if name in self.given}
        values = calibrator(self.given) | values
        if "scm" not in values and "scm_steps_mask_policy" in self.given:
            preset = self.given["scm_steps_mask_policy"]
            policy = self.given.get("scm_steps_policy", "dynamic")
            values["scm"] = {"preset": preset, "policy": policy} if preset is not None else None
        return parse_settings(values)


def read(config: Any) -> Request:
    """Read the engine's config object, or a mapping of the same keys.

    Raises:
        ConfigError: one of this package's own keys has no fitting value.
    """
    given = given_fields(config)
    fields = set() if isinstance(config, Mapping) else {
        item.name for item in dataclasses.fields(config)
    }  # fmt: skip
    others: list[str] = []
    unknown: list[str] = []
    for name in given:
        if name in (*OWN, *SETTINGS, *TRANSLATED, *IGNORED):
            continue
        (others if name in fields else unknown).append(name)
    if lines := wrong_own(given, "cache_config"):
        raise ConfigError("\n  ".join(lines))
    return Request(
        adapter=given.get("adapter"),
        profile=given.get("profile"),
        execution=given.get("execution") or "loop",
        given=given,
        others=tuple(others),
        unknown=tuple(unknown),
    )


def given_fields(config: Any) -> dict[str, Any]:
    """What was given, without the engine's own defaults.

    A config that was made before anybody looked does not tell: there, what differs from the
    engine's defaults counts as given.
    """
    if isinstance(config, Mapping):
        return dict(config)
    extra = dict(getattr(config, "_extra_params", None) or {})
    recorded = extra.pop(GIVEN, None)
    if recorded is None:
        return {**differing(config), **extra}
    return {**{name: getattr(config, name) for name in sorted(recorded)}, **extra}
