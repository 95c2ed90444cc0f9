"""Profiles: the lists that they name, and whether they change anything."""

from __future__ import annotations

from cachedit_yaml.rules.checks.context import Context, mapping
from cachedit_yaml.yaml.diagnostics import KeyPath, nearest, one_of


def check(context: Context) -> None:
    """Lists that no transformer declares, and profiles without settings."""
    full = dict.fromkeys(f"{block.transformer}.{block.name}" for block in context.lists())
    for profile, value in mapping(context.data.get("profiles")).items():
        settings = [name for name in mapping(value) if name != "description"]
        changed = [name for name in settings if name != "lists" or mapping(value)["lists"]]
        if isinstance(value, dict) and not changed:
            context.report(
                "empty-profile",
                f"profile {profile!r} changes nothing",
                ("profiles", profile),
                key=True,
            )
        for name in mapping(mapping(value).get("lists")):
            path: KeyPath = ("profiles", profile, "lists", name)
            if isinstance(name, str) and name not in full and full:
                _unknown_list(context, name, path, full)


def _unknown_list(context: Context, name: str, path: KeyPath, full: dict[str, None]) -> None:
    short = dict.fromkeys(
        f"{block.transformer}.{block.name}" for block in context.lists() if block.name == name
    )
    if len(short) > 1:
        context.report(
            "unknown-name",
            f"{name!r} may be {one_of(list(short))}",
            path,
            key=True,
            hint="write it with its transformer",
        )
    elif not short:
        context.report(
            "unknown-name",
            f"no block list is called {name!r}",
            path,
            key=True,
            expected=one_of(list(full)),
            near=nearest(name, [*full, *(block.name for block in context.lists())]),
        )
