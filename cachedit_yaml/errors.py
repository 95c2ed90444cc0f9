"""The errors that cachedit-yaml raises.

::

    CacheditYamlError
    ├── AdapterError              the YAML is wrong (carries diagnostics)
    │   └── SchemaVersionError    written for a language version that this release cannot read
    ├── AdapterNotFoundError      no adapter serves this pipeline, transformer or name
    ├── AdapterConflictError      two adapters claim the same class with the same right
    ├── RefusedError              the adapter says that this pipeline must not be cached
    ├── ConfigError               a cache_config or profile that nobody knows
    ├── CompileError              the adapter does not fit the live pipeline (carries problems)
    └── CacheRuntimeError         caching cannot go on during a generation
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cachedit_yaml.yaml.diagnostics import plain

if TYPE_CHECKING:
    from cachedit_yaml.yaml.diagnostics import Diagnostic


class CacheditYamlError(Exception):
    """Base of every error of this package. What it quotes is text: see :func:`plain`."""

    def __init__(self, message: str = "") -> None:
        super().__init__("\n".join(map(plain, message.split("\n"))))


class AdapterError(CacheditYamlError):
    """One or more adapter files are wrong.

    Attributes:
        diagnostics: every problem found, in the order of the files.
    """

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n".join(item.summary() for item in self.diagnostics))


class SchemaVersionError(AdapterError):
    """The file is written for a version of the language that this release cannot read."""


class AdapterNotFoundError(CacheditYamlError):
    """No adapter serves what was asked for."""


class AdapterConflictError(CacheditYamlError):
    """Two adapters claim the same class with the same right."""


class RefusedError(CacheditYamlError):
    """The adapter says that this pipeline must not be cached, and why."""


class ConfigError(CacheditYamlError):
    """A cache setting or a profile that nobody knows, or a value that it cannot have."""


class CompileError(CacheditYamlError):
    """The adapter does not fit the live pipeline. Nothing was touched.

    Attributes:
        problems: every reason, one sentence each.
    """

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        self.problems = tuple(problems)
        lines = [message, *(f"  - {problem}" for problem in self.problems)]
        super().__init__("\n".join(lines))


class ProofError(CacheditYamlError):
    """Something that was claimed of a cached pipeline does not hold."""


class DraftError(CacheditYamlError):
    """No adapter can be drafted: nothing of what was watched denoises."""


class CacheRuntimeError(CacheditYamlError):
    """Caching cannot go on as the adapter says; raised during a generation."""

    @classmethod
    def not_installed(cls, what: str, error: ModuleNotFoundError) -> CacheRuntimeError:
        """Say what needs the package that an import did not find."""
        return cls(
            f"{what} needs the package {error.name}, which is not installed: "
            "pip install 'cachedit-yaml[run]'"
        )
