"""CY3xx: names of classes and adapters, across files and installed packages."""

from __future__ import annotations

from typing import Final

from cachedit_yaml.rules.catalogue.rule import ADAPTER, Rule

_PROBE: Final = "schema: 1\ndiffusers: {parts: {vae: kl}}\n"

RULES: Final = (
    Rule(
        "CY301",
        "conflict",
        "error",
        "Two adapter files claim the same name or class with the same right.",
        "Which of the two serves the model would depend on the order in which files are found.",
        "Remove the name from one of the two files, or put them in places of different rank.",
        "# file: a.yaml\n" + ADAPTER + "# file: b.yaml\n" + ADAPTER,
        "# file: a.yaml\n"
        + ADAPTER
        + "# file: b.yaml\n"
        + ADAPTER.replace("MyPipeline", "YourPipeline"),
    ),
    Rule(
        "CY302",
        "misspelled-class",
        "warning",
        "No installed package has a class of this name, but one of nearly the same.",
        "The adapter would never match, and the model would silently run without it.",
        "Write the name as the class has it. `--fix` corrects the spelling. Classes are looked up "
        "in the sources of diffusers and of the engines that are installed; nothing is imported.",
        ADAPTER.replace("MyPipeline", "QwenImagPipeline"),
        ADAPTER.replace("MyPipeline", "QwenImagePipeline"),
    ),
    Rule(
        "CY303",
        "search-path",
        "warning",
        "A place to look for adapters cannot be used.",
        "The adapters in it will not be found.",
        "Correct the path, or unset the variable.",
        "# env: CACHEDIT_YAML_PATH=nowhere\n" + ADAPTER,
    ),
    Rule(
        "CY304",
        "misplaced-class",
        "warning",
        "The name of a transformer stands where a pipeline's belongs, or the other way round.",
        "A pipeline is matched by `pipelines`, a transformer by `class`: in the other place the "
        "name never matches.",
        "Move it: pipelines under `pipelines`, transformers under the transformer's `class`.",
        ADAPTER.replace("MyPipeline", "FluxTransformer2DModel"),
        ADAPTER.replace("MyPipeline", "FluxPipeline"),
    ),
    Rule(
        "CY305",
        "idle-probe",
        "warning",
        "A file in `probes/` holds a probe that no adapter uses.",
        "Nothing tries what it describes, although it looks as if something did.",
        "Give the file the name of its adapter's file, and the adapter a section for the engine.",
        "# file: mine.yaml\n" + ADAPTER + "# file: probes/other.yaml\n" + _PROBE,
        "# file: mine.yaml\n" + ADAPTER + "# file: probes/mine.yaml\n" + _PROBE,
    ),
)
