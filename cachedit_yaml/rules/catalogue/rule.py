"""What the catalogue says about one kind of finding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from cachedit_yaml.engines import NAMES
from cachedit_yaml.yaml.diagnostics import Severity

#: What has to be looked at before the rule can say anything.
Level: TypeAlias = Literal["file", "schema", "meaning", "names", "deep", "engine", "ignores"]
#: Them in the order of the codes: CY0xx look at the file, CY1xx at the schema.
LEVELS: Final[tuple[Level, ...]] = get_args(Level)

#: The name of an engine, for examples.
ENGINE: Final = NAMES[-1]
#: Three lines that make a whole adapter, for examples.
ADAPTER: Final = """\
schema: 1
pipelines: [MyPipeline]
transformers: {transformer: {blocks: {blocks: Pattern_1}}}
"""


@dataclass(frozen=True)
class Rule:
    """One kind of finding.

    The examples are files, and the tests run them. A line ``# file: NAME`` begins another file
    of the same example; ``# env: NAME=VALUE`` sets a variable; ``# link: NAME`` makes a link
    that leads nowhere.

    Attributes:
        id: the stable code; never used again for anything else.
        name: the stable name, which messages show.
        severity: of its findings.
        title: what is wrong, in one sentence.
        why: why it matters.
        fix: how to mend it.
        bad: an example that leads to this finding and to no other.
        good: the same, mended.
        encoding: how the bad example is encoded.
    """

    id: str
    name: str
    severity: Severity
    title: str
    why: str
    fix: str
    bad: str
    good: str = ADAPTER
    encoding: str = "utf-8"

    @property
    def level(self) -> Level:
        """What the rule looks at."""
        return LEVELS[int(self.id[2])]

    @property
    def address(self) -> str:
        """Where the documentation of the rule stands."""
        return f"docs/rules.md#{self.id.lower()}"

    @property
    def ignorable(self) -> bool:
        """Whether a comment may silence it.

        An error makes the file unusable, whatever a comment says. What `--deep` reads off other
        people's source may be mistaken, and a pattern in the registry may be meant.
        """
        return self.severity != "error" or self.level == "deep"
