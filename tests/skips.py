"""Every reason for which a test may be skipped; a run in which another one is given fails.

What an index of packages offers is no reason: it is a dependency of the tests.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, version

#: Full matches of what is given -> what it would take.
SKIPS: dict[str, str] = {
    r"needs a CUDA device": "a GPU; `pytest -m gpu` is run on one by hand",
    r".*[Bb]oogu.*": "a package on no index; tests/zoo/test_boogu_image.py has the same loops",
    r"diffusers 0\.42\.1 cannot run it at all, .*": "a fault of diffusers (EasyAnimateControl)",
    r"diffusers 0\.42\.1 has no pipeline of spectrogram-diffusion .*": "the same, and note_seq",
}

#: The same for vLLM-Omni's environment; the probes give these.
ENGINE_SKIPS: dict[str, str] = {
    r"its forward hands guidance_scale to the forward of .*, which vLLM-Omni 0\.30\.0 refuses": (
        "a fault of vLLM-Omni"
    ),
    r"its code does not import with the transformers that vLLM-Omni 0\.30 needs, .*": (
        "a fault of vLLM-Omni"
    ),
    r"vLLM-Omni 0\.30 has no such class(, and 0\.22 has no platform for CPUs)?": (
        "a GPU, and another release of vLLM-Omni"
    ),
    r"the pipeline needs CUDA and a checkpoint of 60 GB .*": "a GPU and 60 GB",
    r"the engine makes its transformer (3072 wide|of six billion parameters).*": "28 or 24 GiB",
    r"the engine refuses every checkpoint whose transformer is not the released one .*": "56 GiB",
    r"its text encoder has 24 layers of 4096 whatever the checkpoint says, .*": (
        "memory, and the engine of realtime sessions"
    ),
    r"it loads the vocal separator of the package audio-separator, .*": "that model's weights",
    r"the policy reads .* from files that only a released checkpoint has": "a released checkpoint",
    r"the engine makes it from one file of weights": "a released checkpoint",
    r"its autoencoders are Python files of the checkpoint": "a released checkpoint",
}

#: The same for releases of diffusers and cache-dit that are older than the newest supported.
OLDER_SKIPS: dict[str, str] = {
    r"(this release of |the installed )?diffusers( \d\S*)? has no .*": "a newer diffusers",
    r"neither diffusers nor transformers has .*": "a newer diffusers",
    r".* is not in diffusers .*": "a newer diffusers",
    r"this cache-dit has no adapter for these classes": "a newer cache-dit",
    r"the installed cache-dit has the config of \w+, not the calibrator": "a newer cache-dit",
    r"the page is about the newest diffusers": "a newer diffusers",
}

#: The same for systems that are not Linux.
ELSEWHERE_SKIPS: dict[str, str] = {
    r"needs (fork and (gloo|/proc)|/proc)": "Linux",
    r"names of files there hold no such characters": "a system whose file names are any bytes",
}

#: Lists the newest releases that the tests know; `.ci/constraints.txt` pins them.
NEWEST = {"diffusers": "0.42.1", "cache-dit": "1.5.3"}


def _has(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def allowed() -> dict[str, str]:
    """The reasons that count in this environment."""
    found = dict(SKIPS)
    if _has("vllm-omni"):
        found |= ENGINE_SKIPS
    if any(_has(package) not in (None, newest) for package, newest in NEWEST.items()):
        found |= OLDER_SKIPS
    if sys.platform != "linux":
        found |= ELSEWHERE_SKIPS
    return found


def unlisted(reason: str) -> bool:
    """Whether a test was skipped for a reason that does not count."""
    return not any(re.fullmatch(pattern, reason) for pattern in allowed())
