"""Where an unknown key belongs, or what it is called here.

People come with the names of cache-dit and of engines in mind, or put a right key in a
wrong place. Both deserve a better answer than "unknown key".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from cachedit_yaml.language.schemas import Schema, inner
from cachedit_yaml.yaml.diagnostics import nearest

_SEPARATE: Final = "write 'guidance: separate', or leave it out: the run shows it"
_STEPS: Final = "leave it out: the number of steps comes from the run"
_THRESHOLD: Final = "it is called 'residual_diff_threshold' here"
_WARMUP: Final = "it is called 'max_warmup_steps' here"

#: Names from elsewhere, and what to write.
FOREIGN: Final[Mapping[str, str]] = {
    "enable_separate_cfg": _SEPARATE,
    "has_separate_cfg": _SEPARATE,
    "num_inference_steps": _STEPS,
    "num_steps": _STEPS,
    "steps_computation_mask": "write 'scm: {mask: [1, 1, 0, ...]}'",
    "scm_steps_mask": "write 'scm: {mask: [1, 1, 0, ...]}'",
    "steps_computation_policy": "write 'scm: {preset: medium, policy: static}'",
    "scm_steps_policy": "write 'scm: {preset: medium, policy: static}'",
    "steps_mask_policy": "write 'scm: medium'",
    "scm_steps_mask_policy": "write 'scm: medium'",
    "scm_preset": "write 'scm: medium'",
    "scm_compute_bins": "write 'scm: {compute_bins: [...], cache_bins: [...]}'",
    "scm_cache_bins": "write 'scm: {compute_bins: [...], cache_bins: [...]}'",
    "enable_taylorseer": "write 'calibrator: taylorseer'",
    "enable_encoder_taylorseer": "write 'calibrator: {type: taylorseer, "
    "enable_encoder_calibrator: true}'",
    "taylorseer_cache_type": "write 'calibrator: {type: taylorseer, calibrator_cache_type: ...}'",
    "calibrator_config": "it is called 'calibrator' here",
    "cache_config": "it is called 'cache' here",
    "rel_l1_thresh": _THRESHOLD,
    "threshold": _THRESHOLD,
    "rdt": _THRESHOLD,
    "warmup_steps": _WARMUP,
    "max_warmup": _WARMUP,
    "Fn": "it is called 'Fn_compute_blocks' here",
    "Bn": "it is called 'Bn_compute_blocks' here",
    "forward_pattern": "it is called 'pattern' here",
    "blocks_name": "the block list's attribute is the key itself: 'blocks: {NAME: Pattern_1}'",
    "params_modifiers": "it is called 'params' here",
    "patch_functor": "leave it out: the model's own loop runs, so nothing is patched",
    "boundary_ratio": "write 'step_split: {boundary: {ratio: ..., high: ..., low: ...}}'",
    "version": "the version of the language is called 'schema'",
    "transformer": "name it under 'transformers:'",
    "transformer_2": "name it under 'transformers:'",
}


class Advice(NamedTuple):
    """What to do about an unknown key.

    Attributes:
        hint: one hint without a full stop, or None when nothing is near.
        replace: the right spelling, where the key stands in the right place.
    """

    hint: str | None
    replace: str | None = None


def advise(schema: Schema, key: str, root: Schema, foreign: Mapping[str, str]) -> Advice:
    """What to write instead of a key that a mapping does not have.

    Args:
        schema: the mapping that the key stands in.
        key: the unknown key.
        root: the outermost mapping of the document.
        foreign: names from elsewhere, and what to write.
    """
    own = list(schema["properties"])
    if key.strip() in own:
        return Advice(
            f"spaces that are no ordinary spaces surround {key.strip()!r}: write them anew",
            key.strip(),
        )
    below = _places(schema)
    everywhere = _places(root)
    if key in below:
        return Advice(_belongs(below[key]))
    if key in foreign:
        return Advice(foreign[key])
    if key in everywhere:
        return Advice(_belongs(everywhere[key]))
    for name in nearest(key, own):
        return Advice(f"did you mean {name!r}?", name)
    for places in (below, everywhere):
        for name in nearest(key, places):
            return Advice(f"did you mean {name!r}? It {_belongs(places[name])}")
    return Advice(None)


def _belongs(place: str) -> str:
    return f"belongs under '{place}:'" if place else "belongs at the top level of the file"


#: Found once for each mapping of a schema, by its address: schemas stay and never change.
_FOUND: Final[dict[int, dict[str, str]]] = {}


def _places(root: Schema) -> Mapping[str, str]:
    """Every key below a mapping with the path of its mapping, the nearest to the top."""
    if id(root) in _FOUND:
        return _FOUND[id(root)]
    found = _FOUND[id(root)] = {}
    queue: list[tuple[Schema, str, int]] = [(root, "", 0)]
    for schema, place, depth in queue:
        for name, value in schema["properties"].items():
            found.setdefault(name, place)
            below = inner(value)
            if below is not None and depth < 4:
                step = f"{name}.NAME" if below[1] == "NAME" else name
                queue.append((below[0], f"{place}.{step}" if place else step, depth + 1))
    return found
