"""What a request asks of the cache: ``extra_args["cachedit"]``, and the engine's ``quality``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from cachedit_yaml.engines.request import SETTINGS, unknown_keys
from cachedit_yaml.engines.vllm_omni.settings import TRANSLATED, Request, read
from cachedit_yaml.errors import CacheditYamlError, ConfigError

if TYPE_CHECKING:
    from cachedit_yaml.compiler.plan import Plan
    from cachedit_yaml.runtime.choice import Choice

#: The key of ``extra_args``.
KEY: Final = "cachedit"
#: What a request may say; the adapter and how it is run are the server's.
KEYS: Final = ("profile", *SETTINGS, *TRANSLATED)
#: The engine's levels of quality: the one without a cache, and the profile of the other.
LOSSLESS: Final = "lossless"
_PROFILES: Final[Mapping[str, str]] = {"high": "quality"}
#: As many settings of requests as are kept compiled.
_MOST: Final = 64


class Wishes:
    """Turns what requests ask for into settings, each once.

    Args:
        plan: what everybody gets.
        server: what the server's config asks for.
        own_quality: the pipeline itself does what a level of quality means.
    """

    def __init__(self, plan: Plan, server: Request, *, own_quality: bool) -> None:
        self._plan = plan
        self._server = server
        self._own_quality = own_quality
        self._known: dict[str, Choice] = {}

    def choice(self, sampling: Any) -> Choice | None:
        """What one request gets; None for what everybody gets.

        Args:
            sampling: the request's ``OmniDiffusionSamplingParams``.

        Raises:
            OmniClientError: a key that nobody knows, or a value that it cannot have.
        """
        from vllm_omni.errors import OmniClientError

        from cachedit_yaml.runtime.choice import Choice

        quality = getattr(sampling, "quality", None)
        try:
            asked = asked_of(sampling)
            if self._server.execution != "loop":
                if not asked:
                    return None
                raise ConfigError(
                    f"the server's execution {self._server.execution!r} caches every request in "
                    f"the same way; leave extra_args[{KEY!r}] out"
                )
            if quality == LOSSLESS:
                return Choice(off=True)
            profile = None if self._own_quality else _PROFILES.get(quality or "")
            if profile in (self._plan.spec.profiles or {}):
                asked = {"profile": profile, **asked}
            return self._compiled(asked) if asked else None
        except CacheditYamlError as error:
            raise OmniClientError(str(error)) from error

    def _compiled(self, asked: Mapping[str, Any]) -> Choice:
        from cachedit_yaml.engines.door import compile_for
        from cachedit_yaml.runtime.choice import Choice

        key = canonical(asked)
        if key not in self._known:
            settings = read(asked).settings()
            strong = dataclasses.replace(self._server.settings(), **dict(settings.given()))
            plan = compile_for(
                self._plan.spec,
                self._plan.pipeline,
                profile=asked.get("profile") or self._server.profile,
                settings=strong,
                where=f"extra_args[{KEY!r}]",
            )
            while len(self._known) >= _MOST:
                del self._known[next(iter(self._known))]
            self._known[key] = Choice.of(plan)
        return self._known[key]


def asked_of(sampling: Any) -> Mapping[str, Any]:
    """What a request's ``extra_args`` say to us.

    Raises:
        ConfigError: it is no mapping, or has a key that nobody knows.
    """
    found = (getattr(sampling, "extra_args", None) or {}).get(KEY)
    if found is None:
        return {}
    where = f"extra_args[{KEY!r}]"
    if not isinstance(found, Mapping):
        raise ConfigError(f'{where} is no mapping, but {found!r}; write {{"profile": "fast"}}')
    lines = unknown_keys(found, KEYS, where)
    if lines:
        lines.append("it takes profile, and the settings of docs/language.md")
        raise ConfigError("\n  ".join(lines))
    return found


def canonical(asked: object) -> str:
    """Text that is the same for the same wishes."""
    return json.dumps(asked, sort_keys=True, default=repr)


def batch_by_wishes(inner: Callable[..., Any], *args: Any) -> Any:
    """Around what makes the engine's keys of batches: one batch has one choice.

    The last argument is the request.
    """
    key = inner(*args)
    asked = (getattr(args[-1].sampling_params, "extra_args", None) or {}).get(KEY)
    if asked is None:
        return key
    return dataclasses.replace(
        key, condition_key=(*(key.condition_key or ()), KEY, canonical(asked))
    )
