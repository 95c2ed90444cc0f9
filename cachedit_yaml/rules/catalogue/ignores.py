"""CY6xx: comments that silence findings."""

from __future__ import annotations

from typing import Final

from cachedit_yaml.rules.catalogue.rule import ADAPTER, Rule

_ZERO: Final = "cache: {max_cached_steps: 0}"
_GOOD: Final = ADAPTER + _ZERO + "  # cachedit-yaml: ignore[CY205] a baseline to compare with\n"

RULES: Final = (
    Rule(
        "CY601",
        "unused-ignore",
        "warning",
        "A comment silences a finding that is not there.",
        "It would hide the finding when it comes back.",
        "Remove the comment. `--fix` does it.",
        ADAPTER + "cache: {scm: fast}  # cachedit-yaml: ignore[CY205] no longer true\n",
        _GOOD,
    ),
    Rule(
        "CY602",
        "ignore-without-reason",
        "warning",
        "A comment silences a finding and does not say why.",
        "The next reader cannot tell whether it still holds.",
        "Write the reason behind the bracket.",
        ADAPTER + _ZERO + "  # cachedit-yaml: ignore[CY205]\n",
        _GOOD,
    ),
    Rule(
        "CY603",
        "unknown-ignore",
        "warning",
        "A comment names a rule that does not exist.",
        "It silences nothing.",
        "Write the code or the name of the rule.",
        ADAPTER + "cache: {scm: fast}  # cachedit-yaml: ignore[CY999] misremembered\n",
        _GOOD,
    ),
    Rule(
        "CY604",
        "error-ignored",
        "warning",
        "A comment tries to silence an error.",
        "An error makes the file unusable, whatever a comment says.",
        "Mend the error, and remove the comment.",
        ADAPTER + "cache: {scm: fast}  # cachedit-yaml: ignore[CY101] it is right\n",
        _GOOD,
    ),
)
