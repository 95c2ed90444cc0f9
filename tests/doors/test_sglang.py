"""The plugin of SGLang's processes, as far as it goes without SGLang."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType
from typing import Any

from cachedit_yaml.engines.late import around


def test_a_process_that_imports_no_pipeline_loads_nothing() -> None:
    program = (
        "import sys; from cachedit_yaml.engines.sglang import register; register(); register(); "
        "print({'torch', 'cache_dit', 'sglang', 'yaml'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["set()"], done.stderr


def test_a_function_is_replaced_wherever_its_package_holds_it() -> None:
    def say(word: str) -> str:
        return word

    modules = {name: ModuleType(name) for name in ("pack", "pack.a", "package")}
    for module in modules.values():
        module.say = say  # type: ignore[attr-defined]
    sys.modules.update(modules)
    # An import that is barred, and something that loads lazily: both are found there.
    odd: dict[str, Any] = {"pack.none": None, "pack.lazy": ()}
    sys.modules.update(odd)
    try:
        around(modules["pack.a"], "say", lambda inner, word: inner(word) * 2)
    finally:
        for name in (*modules, *odd):
            del sys.modules[name]
    assert [module.say("x") for module in modules.values()] == ["xx", "xx", "x"]
