"""What a request and the server's environment ask of the cache.

SGLang merges both with its defaults into one ``CacheDitConfig``. A default there must not win over
an adapter, so the stage that builds the config also leaves in it what was given by whom.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cachedit_yaml.api import read_config
from cachedit_yaml.engines.late import GIVEN
from cachedit_yaml.engines.request import (
    OWN,
    SETTINGS,
    calibrator,
    unknown_keys,
    wrong_own,
)
from cachedit_yaml.errors import ConfigError
from cachedit_yaml.language.spec import AdapterSpec, CacheSettings
from cachedit_yaml.registry.registry import Registry
from cachedit_yaml.rules.load import parse_settings

NAME: Final = "sglang"
#: SGLang's settings of one transformer, and how its environment variables end.
_KNOBS: Final[Mapping[str, str]] = {
    "Fn_compute_blocks": "FN",
    "Bn_compute_blocks": "BN",
    "max_warmup_steps": "WARMUP",
    "residual_diff_threshold": "RDT",
    "max_continuous_cached_steps": "MC",
    "enable_taylorseer": "TAYLORSEER",
    "taylorseer_order": "TS_ORDER",
    "enable_dmd": "DMD",
    "dmd_history": "DMD_HISTORY",
    "dmd_rank": "DMD_RANK",
    "dmd_ridge": "DMD_RIDGE",
    "dmd_svd_precision": "DMD_SVD_PRECISION",
}
_PREFIX: Final = "SGLANG_CACHE_DIT_"


class RequestError(ConfigError, ValueError):
    """A request's ``cache_dit_params`` are wrong. SGLang takes a ValueError as the client's."""


@dataclass(frozen=True)
class Given:
    """What was given, beside what SGLang fills in.

    Attributes:
        request: the request's ``cache_dit_params``, checked.
        secondary: the config is for the second transformer.
        compiles: the server compiles the transformer as a whole, where no hook of a block runs.
        file: the server's ``--cache-dit-config``, which SGLang reads for diffusers' pipelines only.
    """

    request: Mapping[str, Any]
    secondary: bool
    compiles: bool
    file: str | None


@dataclass(frozen=True)
class Asked:
    """What is asked for one transformer.

    Attributes:
        adapter: name or path of an adapter, ``engine``, or None to find one by class.
        profile: one of the adapter's profiles, or None.
        execution: ``loop`` or ``native``.
        settings: the settings that win over profile and adapter.
        only_ours: keys of the request that SGLang's own code does not know.
        file: the adapter that the server's ``--cache-dit-config`` holds, or None.
        compiles: the server compiles the transformer as a whole.
    """

    adapter: str | None
    profile: str | None
    execution: str
    settings: CacheSettings
    only_ours: tuple[str, ...]
    file: AdapterSpec | None
    compiles: bool


def remember_what_is_given(
    inner: Callable[..., Any], stage: Any, *args: Any, secondary: bool = False, **kwargs: Any
) -> Any:
    """Around ``DenoisingStage._build_cache_dit_config``."""
    config = inner(stage, *args, secondary=secondary, **kwargs)
    server = stage.server_args
    file = getattr(server, "cache_dit_config", None)
    config.__dict__[GIVEN] = Given(
        request=dict(stage._cache_dit_request_overrides),
        secondary=secondary,
        compiles=bool(getattr(server, "enable_torch_compile", False))
        and not getattr(server, "regional_compile", False),
        file=file if isinstance(file, str) else None,
    )
    return config


def check_request(raw: Mapping[str, Any], known: frozenset[str], knobs: frozenset[str]) -> None:
    """Check a request's ``cache_dit_params``: the engine's keys, ours, and those of the language.

    Args:
        raw: the request's.
        known: the keys that the engine takes.
        knobs: those of them that it takes for the second transformer.

    Raises:
        RequestError: a key that nobody knows, or a value that it cannot have.
    """
    second = raw.get("secondary")
    lines = unknown_keys(raw, (*sorted(known), *OWN, *SETTINGS), "cache_dit_params")
    if isinstance(second, Mapping):
        where = "cache_dit_params['secondary']"
        lines += unknown_keys(second, (*sorted(knobs), *SETTINGS), where)
    lines += wrong_own(raw, "cache_dit_params")
    for part in (raw, second if isinstance(second, Mapping) else {}):
        try:
            parse_settings({k: v for k, v in part.items() if k in SETTINGS}, "cache_dit_params")
        except ConfigError as error:
            lines.append(str(error))
    if lines:
        raise RequestError("\n  ".join(lines))


def split_request(
    raw: Mapping[str, Any], known: frozenset[str], knobs: frozenset[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Divide ``cache_dit_params`` into what the engine takes and what only this package takes."""
    theirs = {name: value for name, value in raw.items() if name in known}
    ours = {name: value for name, value in raw.items() if name not in known}
    second = raw.get("secondary")
    if isinstance(second, Mapping):
        theirs["secondary"] = {name: value for name, value in second.items() if name in knobs}
    return theirs, ours


def read(config: Any) -> Asked:
    """Read a ``CacheDitConfig``.

    Raises:
        RequestError: a value that a setting cannot have.
    """
    given: Given | None = vars(config).get(GIVEN)
    request = dict(given.request) if given is not None else {}
    second = request.pop("secondary", None) or {}
    # Ours may stand in the environment as well.
    own = {
        name: request.get(name) or os.environ.get(f"CACHEDIT_YAML_{name.upper()}") for name in OWN
    }
    if given is not None and given.secondary:
        request |= second
    values = _knobs(config, given, request)
    try:
        own_calibrator = calibrator(values)
        values = {name: value for name, value in values.items() if name in SETTINGS}
        values |= own_calibrator | _scm(config, given, request)
        values |= {name: value for name, value in request.items() if name in SETTINGS}
        settings = parse_settings(values, "cache_dit_params")
    except ConfigError as error:
        raise RequestError(str(error)) from error
    adapter = None
    if given is not None and given.file is not None:
        adapter, weaker = _file(given.file)
        settings = dataclasses.replace(weaker, **dict(settings.given()))
    return Asked(
        own["adapter"],
        own["profile"],
        own["execution"] or "loop",
        settings,
        tuple(x for x in request if x in OWN or (x in SETTINGS and x not in _KNOBS)),
        adapter,
        given is not None and given.compiles,
    )


def _file(path: str) -> tuple[AdapterSpec | None, CacheSettings]:
    """The adapter in a file, and the cache settings beside it.

    Of a file without an adapter nothing counts, as SGLang has it.
    """
    config = read_config(path, NAME)
    if config is None:
        return Registry.load().get(Path(path), NAME), CacheSettings()
    if config.adapter is None:
        return None, CacheSettings()
    return config.adapter, config.settings


def _knobs(config: Any, given: Given | None, request: Mapping[str, Any]) -> dict[str, Any]:
    """The engine's settings that were given."""
    found = {}
    for item in dataclasses.fields(config):
        if item.name not in _KNOBS:
            continue
        value = getattr(config, item.name)
        if given is None:  # from code that knows no request: what differs was given
            counts = value != item.default
        else:
            names = [_KNOBS[item.name]]
            names += [f"SECONDARY_{names[0]}"] if given.secondary else []
            counts = item.name in request or any(f"{_PREFIX}{x}" in os.environ for x in names)
        if counts:
            found[item.name] = value
    return found


def _scm(config: Any, given: Given | None, request: Mapping[str, Any]) -> dict[str, Any]:
    """The step mask as it was asked for, not as it was made: steps change from run to run."""
    if given is None:
        mask = config.steps_computation_mask
        if mask is None:
            return {}
        return {"scm": {"mask": list(mask), "policy": config.steps_computation_policy}}

    def asked(name: str) -> Any:
        return request.get(f"scm_{name}", os.environ.get(f"{_PREFIX}SCM_{name.upper()}"))

    policy = config.steps_computation_policy
    compute, cache = asked("compute_bins"), asked("cache_bins")
    if compute and cache:
        bins = {"compute_bins": _numbers(compute), "cache_bins": _numbers(cache)}
        return {"scm": {**bins, "policy": policy}}
    preset = asked("preset")
    if preset is None:
        return {}
    return {"scm": None if preset == "none" else {"preset": preset, "policy": policy}}


def _numbers(bins: Any) -> list[int]:
    try:
        return [int(x) for x in (bins.split(",") if isinstance(bins, str) else bins)]
    except (TypeError, ValueError) as error:
        raise RequestError(f"scm bins are whole numbers, not {bins!r}") from error
