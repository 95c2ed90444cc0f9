"""Profiles go into an adapter of any style, and nothing else in it changes."""

from __future__ import annotations

import re

import pytest

from cachedit_yaml.errors import ConfigError
from cachedit_yaml.tuning.placing import placed
from cachedit_yaml.yaml.reader import read_text

SCM = {"policy": "static", "compute_bins": [1] * 30 + [1000], "cache_bins": [2] * 30}
FAST = {
    "Fn_compute_blocks": 0,
    "scm": SCM,
    "calibrator": {"type": "taylorseer", "taylorseer_order": 1},
    "measured": {"model": "it's: a model #1", "steps": 8, "psnr": {"pooled": 30.5}, "device": "on"},
}
NEW = {"fast": FAST, "half": {"residual_diff_threshold": 0.3, "scm": None, "calibrator": None}}
HEAD = "# Mine.\nschema: 1   # the first\npipelines: [DiTPipeline]\n"

STYLES = {
    "none": HEAD + "models: [a/b]   # the last\n",
    "no line break at the end": HEAD + "models: [a/b]",
    "an end of the document": HEAD + "models: [a/b]\n# said\n...\n# behind\n",
    "a mark at the start": "---\n" + HEAD,
    "block": HEAD + "profiles:   # all\n  # careful\n  slow: {max_warmup_steps: 9}  # stays\n"
    "  fast:   # for previews\n    # measured by hand\n    max_warmup_steps: 1   # why\n"
    "# between\nmodels: [a/b]\n",
    "other indents": HEAD + "profiles:\n     slow:\n        max_warmup_steps: 9\n",
    "empty": HEAD + "profiles: {}   # none yet\nmodels: [a/b]\n",
    "empty with a comment": HEAD + "profiles: {   # none yet\n  # nor here\n  }\nmodels: [a/b]\n",
    "flow": HEAD + "profiles: {slow: {max_warmup_steps: 9}, fast: {max_warmup_steps: 1}}  # all\n",
    "flow of several lines": HEAD + "profiles: {   # all\n  slow: {max_warmup_steps: 9},  # stays\n"
    "  fast: {   # for previews\n    max_warmup_steps: 1},   # why\n  # the last\n}\n",
    "flow without a last comma": HEAD + "profiles: {\n  slow: {max_warmup_steps: 9}   # stays\n}\n",
    "a root in flow style": "# Mine.\n{schema: 1, pipelines: [DiTPipeline]}   # the end\n",
    "the same with a last comma": "{schema: 1,   # one\n pipelines: [DiTPipeline],   # last\n}\n",
    "the same with profiles": "{schema: 1, pipelines: [DiTPipeline],\n"
    " profiles: {slow: {max_warmup_steps: 9}}}\n",
    "the same with none": "{schema: 1, profiles: {}, pipelines: [DiTPipeline]}\n",
    "JSON": '{"schema": 1, "pipelines": ["DiTPipeline"],\n "profiles": {"fast": {}}}\n',
    "an indented root": "  schema: 1\n  pipelines: [DiTPipeline]\n",
    "other line breaks": (HEAD + "profiles:\n  slow:\n    max_warmup_steps: 9\n").replace(
        "\n", "\r\n"
    ),
    "a text of several lines": HEAD + "description: |\n  a # b\n  ... c\n",
}


@pytest.mark.parametrize("name", STYLES)
def test_every_style(name: str) -> None:
    text = STYLES[name]
    document, problems = read_text(text)
    assert document.data is not None, problems
    made = placed(document, NEW)
    read, problems = read_text(made)
    assert not problems
    assert read.data is not None
    before = document.data.get("profiles") or {}
    assert read.data == {**document.data, "profiles": {**before, **NEW}}
    # Every comment is still there, in the same order, and nothing of other lines has gone.
    comments = re.findall(r"# [^\r\n]*", text.replace("a # b", ""))
    place = 0
    for comment in comments:
        place = made.index(comment, place)
    for line in text.splitlines():
        assert line in made or re.search(r"fast|max_warmup_steps: 1|profiles|\}$|\}   #", line)
    assert max(map(len, made.splitlines())) <= 100 or name == "JSON"
    assert ("\r" in made) == ("\r" in text)
    again, _ = read_text(made)
    assert placed(again, NEW) == made


def test_what_cannot_be_edited_is_refused() -> None:
    text = HEAD + "cache: &all {max_warmup_steps: 1}\nprofiles: &p\n  fast: *all\n"
    document, _ = read_text(text)
    assert document.data is not None
    assert placed(document, NEW).startswith(HEAD + "cache: &all {max_warmup_steps: 1}\n")
    document, _ = read_text(HEAD + "engines: {sglang: {profiles: &p {a: {}}}}\nprofiles: *p\n")
    assert document.data is not None
    with pytest.raises(ConfigError, match="write them into another file"):
        placed(document, NEW)
