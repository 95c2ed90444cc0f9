"""Which tensors of a forward condition it: its prompts, which are what is called so.

Embeddings of timesteps and positions, masks, sizes and residuals of a control network are none,
whatever they are called: they may be made anew in each step, and do not say whose forward it is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch

from cachedit_yaml.runtime.doubts import Held
from cachedit_yaml.runtime.identity import Trace, Traces, tensors_in, trace_of

#: Together, tensors that are larger are not held.
_MOST_BYTES: Final = 2**26
#: What prompts are called. What is called otherwise may be the latents, and is not held.
_PROMPT: Final = re.compile(
    r"encoder_hidden_states|prompt|text|caption|context|cond|embed|emb(s|\b)|label|class|^y\b|pooled|clip|t5"
)
#: What runs with the step, or tells where something is, by a name that sounds like it.
_NO_PROMPT: Final = re.compile(
    r"time|(^|[_.])t_?emb|sigma|guidance|noise|modulation|latent|control|residual|inputs?_emb|mask|"
    r"(image|img|text|txt|video|audio|pos(ition)?)_ids|pos_emb|position|rotary|rope|freqs?|coord|ind(ex|ic)es|"
    r"shape|size|grid|scale|len(gth)?s?\b|(?<!encoder_)(?<!text_)(?<!prompt_)hidden_states"
)
_PLAIN: Final = (torch.Tensor, torch.nn.Parameter)


def is_prompt(name: str) -> bool:
    """Whether an argument, or what lies in one, may be a prompt."""
    return _PROMPT.search(name) is not None and _NO_PROMPT.search(name) is None


def main(names: Iterator[str]) -> frozenset[str]:
    """Those of some prompts that tell them apart, whatever else goes with them."""
    found = frozenset(filter(is_prompt, names))
    encoded = frozenset(name for name in found if "encoder_hidden_states" in name)
    return encoded or found


def elements(trace: Trace) -> int:
    """How many elements a tensor has."""
    return math.prod(trace.view[1])


def held_of(arguments: Mapping[str, Any], traces: Traces, latents: Any) -> dict[str, Held]:
    """The prompts of a forward, to be compared with those of the next one.

    Args:
        arguments: of the forward, by their names.
        traces: the tensors among them.
        latents: those of its tensors that are no prompts, or lists of them.
    """
    without = {
        trace.storage.cdata
        for _, tensor in tensors_in("", latents)
        if (trace := trace_of(tensor)) is not None
    }
    found = [
        (name, tensor)
        for argument, value in arguments.items()
        for name, tensor in tensors_in(argument, value)
        if name in traces and is_prompt(name) and type(tensor) in _PLAIN
    ]
    found.sort(key=lambda item: item[1].nbytes)
    left, held = _MOST_BYTES, {}
    for name, tensor in found:
        left -= tensor.nbytes
        if left >= 0 and traces[name].storage.cdata not in without:
            held[name] = Held(tensor.detach(), traces[name])
    return held
