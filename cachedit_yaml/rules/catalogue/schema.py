"""CY1xx: the keys and values of the language."""

from __future__ import annotations

from typing import Final

from cachedit_yaml.rules.catalogue.rule import ADAPTER, Rule

RULES: Final = (
    Rule(
        "CY101",
        "unknown-key",
        "error",
        "The language has no such key here.",
        "A misspelt setting would silently have no effect: the cache would run with the default.",
        "The message names the key that is meant, the place where it belongs, or what another "
        "tool's key is called here. `--fix` corrects the spelling.",
        ADAPTER + "cache: {residual_diff_treshold: 0.1}\n",
        ADAPTER + "cache: {residual_diff_threshold: 0.1}\n",
    ),
    Rule(
        "CY102",
        "missing-key",
        "error",
        "A key is needed here.",
        "Without it the adapter cannot be compiled.",
        "Add the key. `--fix` adds a missing `schema: 1`.",
        "pipelines: [MyPipeline]\ntransformers: {transformer: {blocks: {blocks: Pattern_1}}}\n",
    ),
    Rule(
        "CY103",
        "wrong-type",
        "error",
        "A value is of another kind than what is needed here.",
        "Text is not a number, and `yes` is text in YAML 1.2.",
        "Write a value of the kind that the message names. `--fix` removes quotes around a "
        "number, and writes yes and no as true and false.",
        ADAPTER + "cache: {max_warmup_steps: '4'}\n",
        ADAPTER + "cache: {max_warmup_steps: 4}\n",
    ),
    Rule(
        "CY104",
        "wrong-value",
        "error",
        "A value is none of those that are allowed here.",
        "The value selects something that does not exist.",
        "Choose one of those that the message names. `--fix` corrects the spelling.",
        ADAPTER + "cache: {scm: fst}\n",
        ADAPTER + "cache: {scm: fast}\n",
    ),
    Rule(
        "CY105",
        "wrong-format",
        "error",
        "Text does not have the form that is needed here.",
        "A class name with a space or a path with a leading underscore can never match: no "
        "attribute that begins with an underscore is reachable from an adapter.",
        "Write it in the form that the message names.",
        ADAPTER.replace("MyPipeline", "my.module.MyPipeline"),
    ),
    Rule(
        "CY106",
        "out-of-range",
        "error",
        "A number lies outside of what is allowed.",
        "For example, with a threshold of 1 or more every step would hit, whatever the model does.",
        "Choose a number within the bounds that the message names.",
        ADAPTER + "cache: {residual_diff_threshold: 1.5}\n",
        ADAPTER + "cache: {residual_diff_threshold: 0.15}\n",
    ),
    Rule(
        "CY107",
        "wrong-length",
        "error",
        "A list or mapping has too few or too many items, or a text has too many characters.",
        "An empty list selects nothing, and a list of thousands is no adapter.",
        "Add an item, or remove the key; shorten what is too long.",
        ADAPTER + "cache: {scm: {mask: []}}\n",
        ADAPTER + "cache: {scm: {mask: [1, 0, 1, 1]}}\n",
    ),
    Rule(
        "CY108",
        "exactly-one",
        "error",
        "One of several keys is needed, and only one may be given.",
        "The keys say the same thing in different ways, and nobody could tell which one counts.",
        "Keep one of them.",
        ADAPTER + "cache: {scm: {preset: fast, mask: [1, 0, 1, 1]}}\n",
        ADAPTER + "cache: {scm: {preset: fast}}\n",
    ),
    Rule(
        "CY109",
        "duplicate-item",
        "error",
        "An item stands twice in one list.",
        "The second one has no effect; most often another name was meant.",
        "Remove it, or write the name that was meant.",
        ADAPTER.replace("[MyPipeline]", "[MyPipeline, MyPipeline]"),
        ADAPTER.replace("[MyPipeline]", "[MyPipeline, MyImg2ImgPipeline]"),
    ),
    Rule(
        "CY110",
        "schema-version",
        "error",
        "The file is written for another version of the language.",
        "A key may mean something else there, so nothing else in the file is checked.",
        "Install a release that reads this version.",
        ADAPTER.replace("schema: 1", "schema: 2"),
    ),
    Rule(
        "CY111",
        "extends",
        "error",
        "The adapter to start from cannot be used.",
        "What the file inherits is missing, or the files extend each other in a circle.",
        "Name an adapter that is found, or a path relative to this file.",
        "schema: 1\npipelines: [MyPipeline]\nextends: missing.yaml\n",
    ),
    Rule(
        "CY112",
        "key-order",
        "hint",
        "`schema` is not the first key.",
        "A reader (and a tool that looks at the first lines) wants to know the version before "
        "anything else.",
        "Move the line to the top. `--fix` does it.",
        "pipelines: [MyPipeline]\nschema: 1\n"
        "transformers: {transformer: {blocks: {blocks: Pattern_1}}}\n",
    ),
)
