"""CY0xx: the file, and the YAML in it."""

from __future__ import annotations

from typing import Final

from cachedit_yaml.language.catalogue.rule import ADAPTER, Rule

RULES: Final = (
    Rule(
        "CY001", "unreadable", "error", "file",
        "The file cannot be opened.",
        "Nothing can be said about a file that cannot be read, and an engine would start without "
        "the adapter.",
        "Name a file that exists and that you may read; a folder is searched for *.yaml and *.yml.",
        "# link: adapter.yaml\n",
    ),
    Rule(
        "CY002", "encoding", "error", "file",
        "The file is not UTF-8.",
        "Every reader would guess another text.",
        "Save the file as UTF-8.",
        ADAPTER + "description: café\n",
        ADAPTER + "description: café\n",
        encoding="latin-1",
    ),
    Rule(
        "CY003", "control-character", "error", "file",
        "The file holds a character that cannot be seen.",
        "What an editor shows would not be what is read: a name that looks right would match "
        "nothing, or a line would hide another one.",
        "Remove the character.",
        ADAPTER.replace("[MyPipeline]", "[MyPipeline]\u2028"),
    ),
    Rule(
        "CY004", "too-large", "error", "file",
        "The file goes beyond a limit of size, depth or number.",
        "An adapter is a stranger's data: 256 KiB, 32 levels and 20,000 values are far more than "
        "any model needs, and they keep a hostile file from stopping the reader.",
        "Write what the model needs; share the rest with `extends`.",
        ADAPTER + "models: " + "[" * 33 + "]" * 33 + "\n",
    ),
    Rule(
        "CY005", "syntax", "error", "file",
        "The file is not valid YAML.",
        "Nothing behind the mistake can be read.",
        "The message says what stands there and what YAML needs.",
        ADAPTER + "cache:\n\tscm: fast\n",
        ADAPTER + "cache:\n  scm: fast\n",
    ),
    Rule(
        "CY006", "directive", "error", "file",
        "YAML directives (%YAML, %TAG) are not part of the language.",
        "A directive changes how everything below it is read.",
        "Remove the line.",
        "%YAML 1.1\n---\n" + ADAPTER,
    ),
    Rule(
        "CY007", "tag", "error", "file",
        "YAML tags (!name, !!name) are not part of the language.",
        "A tag asks the reader to make an object of the value; an adapter is only data and never "
        "runs code.",
        "Remove the tag.",
        ADAPTER + "description: !!python/name:os.system x\n",
        ADAPTER + "description: x\n",
    ),
    Rule(
        "CY008", "anchor", "error", "file",
        "Anchors and aliases are limited, must exist and must not contain themselves.",
        "Aliases of aliases make gigabytes out of a few lines, and text that begins with '*' is "
        "an alias by mistake most of the time.",
        "Put text that begins with '*' or '&' in quotes.",
        ADAPTER.replace("[MyPipeline]", "[*Pipeline]"),
        ADAPTER.replace("[MyPipeline]", "['*Pipeline']"),
    ),
    Rule(
        "CY009", "merge-key", "error", "file",
        "Merge keys (<<) are not part of the language; `extends` is.",
        "YAML 1.2 has none, and readers disagree on which value wins.",
        "Write the keys out, or start from another file with `extends`.",
        ADAPTER + "cache:\n  <<: {scm: fast}\n",
        ADAPTER + "cache:\n  scm: fast\n",
    ),
    Rule(
        "CY010", "multiple-documents", "error", "file",
        "A file holds one adapter.",
        "Most readers take only the first document, and the second would silently be lost.",
        "Put the second document in a file of its own.",
        ADAPTER + "---\nschema: 1\n",
    ),
    Rule(
        "CY011", "duplicate-key", "error", "file",
        "A key stands twice in one mapping.",
        "YAML readers silently take the last one, so one of the two settings has no effect.",
        "Keep one of them.",
        ADAPTER + "cache:\n  scm: fast\n  scm: slow\n",
        ADAPTER + "cache:\n  scm: slow\n",
    ),
    Rule(
        "CY012", "non-string-key", "error", "file",
        "A key is text.",
        "A number, a boolean or a list cannot be the name of anything in the language.",
        "Write it in quotes if it is a name.",
        ADAPTER + "profiles:\n  8: {scm: fast}\n",
        ADAPTER + "profiles:\n  '8': {scm: fast}\n",
    ),
    Rule(
        "CY013", "empty", "error", "file",
        "The file holds no adapter.",
        "A file without content is a mistake of a script or of a merge most of the time.",
        "Begin with `schema: 1`, or remove the file.",
        "# to do\n",
    ),
    Rule(
        "CY014", "not-a-mapping", "error", "file",
        "An adapter is a mapping of keys to values.",
        "A list or a single text says nothing that could be used.",
        "Begin with `schema: 1`.",
        "- schema: 1\n- pipelines: [MyPipeline]\n",
    ),
)
