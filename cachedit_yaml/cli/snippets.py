"""The config that ``cachedit-yaml doctor`` shows for an engine."""

from __future__ import annotations

import json
import shlex

_ANY = "MODEL"


def snippet(engine: str, model: str | None, adapter: str | None) -> str:
    """What to write for an engine.

    Args:
        engine: ``diffusers``, ``vllm-omni`` or ``sglang``.
        model: the model, if it is known.
        adapter: the adapter's name, if it is known.
    """
    where = model or _ANY
    if engine == "diffusers":
        name = f", {adapter!r}" if adapter else ""
        return (
            "import cachedit_yaml\n\n"
            f"pipe = cachedit_yaml.from_pretrained({where!r}{name})\n"
            "# or, for a pipeline that is there already:\n"
            f"# handle = cachedit_yaml.enable(pipe{name})"
        )
    if engine == "vllm-omni":
        config = json.dumps({"adapter": adapter} if adapter else {})
        return (
            f"vllm-omni serve {shlex.quote(where)} --omni --cache-backend cache_dit \\\n"
            f"    --cache-config '{config}' --enable-cache-dit-summary"
        )
    if adapter is not None and not adapter.startswith("sglang/"):
        return (
            f"# {adapter}.yaml as `cachedit-yaml show` prints it, or cache-dit's own sections\n"
            f"sglang generate --model-path {shlex.quote(where)} --backend diffusers \\\n"
            f"    --cache-dit-config {shlex.quote(adapter.rpartition('/')[2])}.yaml"
        )
    return (
        "# SGLang's own transformers find their adapters by class\n"
        f"SGLANG_CACHE_DIT_ENABLED=true sglang generate --model-path {shlex.quote(where)}"
    )
