"""How the keys of the language are declared, and the forms that names and paths have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from enum import Enum
from typing import Any, Final

from cachedit_yaml.engines import NAMES

#: The version of the language that this package reads.
LANGUAGE_VERSION: Final = 1

#: A pipeline or transformer class: a name, or a pattern with ``*``.
CLASS_NAME: Final = r"^[A-Za-z_*][A-Za-z0-9_*]*$"
#: One adapter, profile or package name.
NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
#: Dotted attributes, none of which begins with an underscore; at most eight.
ATTRIBUTE_PATH: Final = r"^[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z0-9][A-Za-z0-9_]*){0,7}$"
#: An attribute path from ``pipeline`` or ``transformer``, optionally negated.
CONDITION: Final = r"^(not )?(pipeline|transformer)(\.[A-Za-z][A-Za-z0-9_]*){1,8}$"
#: Version specifiers as in PEP 440, separated by commas.
VERSION_RANGE: Final = (
    r"^ *(~=|==|!=|<=|>=|<|>) *[0-9][A-Za-z0-9.*+!-]*"
    r"( *, *(~=|==|!=|<=|>=|<|>) *[0-9][A-Za-z0-9.*+!-]*)* *$"
)
#: The only attributes with a leading underscore that an adapter may set.
CACHE_FLAG: Final = r"^_cache_dit_[a-z][a-z0-9_]*$"

#: An engine that an adapter may have a section for.
ENGINE: Final = f"^({'|'.join(NAMES)})$"
#: The engines that an adapter serves without a section: they run the pipelines of diffusers.
HOME: Final = ("diffusers", "cache_dit")


class Unset(Enum):
    """The type of :data:`UNSET`: a setting that a layer does not mention.

    It differs from ``None``, which is a value (``null`` in YAML) that sets a field back.
    """

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET


def key(
    doc: str,
    default: Any = None,
    *,
    required: bool = False,
    factory: Callable[[], Any] | None = None,
    **rules: Any,
) -> Any:
    """Declare one key of the language.

    Args:
        doc: what the key means; becomes the description in the JSON Schema.
        default: the value when the key is absent.
        required: whether the key must be present.
        factory: makes the value when the key is absent, for mutable ones.
        **rules: ``name`` (spelling in YAML where it differs from the attribute), ``pattern``
            (a string, or each item of a collection), ``key_pattern`` (each key of a mapping),
            ``minimum``, ``maximum``, ``below`` (exclusive maximum), ``above`` (exclusive
            minimum), ``min_items``, ``max_items``, ``const``, ``examples``, ``nullable``
            (accepts YAML null), ``shorthand`` (the key that a bare string stands for),
            ``atomic`` (`extends` replaces this mapping as a whole instead of merging it).
    """
    metadata = {"doc": doc, "required": required, **rules}
    if required:
        return field(metadata=metadata)
    if factory is not None:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)
