"""From the options of a command to the arguments of a pipeline's call."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cachedit_yaml.generating.generate import with_generators
from cachedit_yaml.generating.loading import UsageError
from cachedit_yaml.language.spec import CacheSettings
from cachedit_yaml.rules.load import parse_settings
from cachedit_yaml.yaml.diagnostics import nearest, one_of
from cachedit_yaml.yaml.reader import read_text

#: Arguments that mean guidance, the first that the call takes.
_GUIDANCE: Final = ("guidance_scale", "true_cfg_scale", "cfg_scale")


@dataclass(frozen=True)
class Wishes:
    """What to generate. None leaves it to the pipeline.

    Attributes:
        prompts: one for each picture.
        labels: names or numbers of classes, one for each picture.
        steps: denoising steps.
        guidance: the guidance scale.
        seed: of the first picture.
        height: in pixels.
        width: in pixels.
        more: further arguments of the call by name.
    """

    prompts: Sequence[str] = ()
    labels: Sequence[str] = ()
    steps: int | None = None
    guidance: float | None = None
    seed: int = 0
    height: int | None = None
    width: int | None = None
    more: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Call:
    """A call of a pipeline.

    Attributes:
        arguments: by name, the generators left out.
        seeds: one for each picture; empty where the call takes no generator.
        names: what each picture shows.
        counts_steps: whether the number of steps is an argument.
    """

    arguments: dict[str, Any]
    seeds: list[int]
    names: list[str]
    counts_steps: bool

    def with_generators(self) -> dict[str, Any]:
        """The arguments with new generators."""
        return with_generators(self.arguments, self.seeds)


def build_call(
    pipeline: Any, wishes: Wishes, usual: Callable[[list[str]], Mapping[str, Any]] | None = None
) -> Call:
    """Find the arguments that a pipeline's call takes for what is wished.

    Args:
        pipeline: a live pipeline.
        wishes: what somebody asks for.
        usual: given the arguments that are needed and missing, those of them that it knows.

    Raises:
        UsageError: the call does not take something, or needs something else; names it.
    """
    parameters = inspect.signature(type(pipeline).__call__).parameters
    anything = any(item.kind is item.VAR_KEYWORD for item in parameters.values())
    given: dict[str, Any] = {}
    cls = type(pipeline).__name__

    def put(option: str, name: str, value: Any) -> None:
        if name not in parameters and not (anything and option == "--arg"):
            near = nearest(name, parameters, limit=1)
            hint = f"; did you mean {near[0]}?" if near and option == "--arg" else ""
            raise UsageError(f"{cls} takes no {name}, so {option} does not go with it{hint}")
        given[name] = value

    names: list[str] = []
    if wishes.labels:
        ids = class_ids(pipeline, wishes.labels)
        put("--label", "class_labels", ids)
        names = [str(label) for label in wishes.labels]
    if wishes.prompts:
        prompts = list(wishes.prompts)
        put("--prompt", "prompt", prompts if len(prompts) > 1 else prompts[0])
        names = prompts
    sizes = {
        "num_inference_steps": ("--steps", wishes.steps),
        "height": ("--height", wishes.height),
        "width": ("--width", wishes.width),
    }
    for name, (option, value) in sizes.items():
        if value is not None:
            put(option, name, value)
    if wishes.guidance is not None:
        name = next((name for name in _GUIDANCE if name in parameters), _GUIDANCE[0])
        put("--guidance", name, wishes.guidance)
    for name, value in (wishes.more or {}).items():
        put("--arg", name, _made(name, value))
    if "output_type" in parameters:
        given.setdefault("output_type", "pil")
    missing = _missing(parameters, given)
    if missing and usual is not None:
        given |= usual(missing)
    _check_needed(cls, parameters, given)
    count = max(len(names), 1)
    seeds = [wishes.seed + index for index in range(count)] if "generator" in parameters else []
    return Call(given, seeds, names or [cls], "num_inference_steps" in parameters)


def _made(name: str, value: Any) -> Any:
    """What a value stands for.

    Raises:
        UsageError: it cannot be made.
    """
    if not isinstance(value, (Mapping, list)):
        return value
    from cachedit_yaml.probe.classes import ProbeError
    from cachedit_yaml.probe.limits import LimitError
    from cachedit_yaml.probe.values import Maker

    try:
        return Maker({}, 1).make(value, (name,))
    except (ProbeError, LimitError) as error:
        raise UsageError(f"--arg {error}") from None


def settings_of(pairs: Sequence[str]) -> CacheSettings | None:
    """The cache settings that ``--set`` gives, or None.

    Raises:
        ConfigError: a key that nobody knows, or a value that it cannot have.
    """
    return parse_settings(values_of(pairs, "--set"), "--set") if pairs else None


def values_of(pairs: Sequence[str], option: str) -> Mapping[str, Any]:
    """Read ``KEY=VALUE``; values are as in an adapter file, and a dot goes into a mapping.

    Raises:
        UsageError: one of them cannot be read.
    """
    result: dict[str, Any] = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        path = key.strip().split(".")
        if not separator or not all(path):
            raise UsageError(f"{option} {pair!r}: write KEY=VALUE")
        document, problems = read_text(f"value: {text}", option)
        errors = [item.message for item in problems if item.severity == "error"]
        if errors or "\n" in text or document.data is None or set(document.data) != {"value"}:
            reason = errors[0] if errors else "one value in one line"
            raise UsageError(f"{option} {pair!r}: {reason}")
        place = result
        for step in path[:-1]:
            place = place.setdefault(step, {})
            if not isinstance(place, dict):
                raise UsageError(f"{option} {pair!r}: {step} has a value already")
        place[path[-1]] = document.data["value"]
    return result


def class_ids(pipeline: Any, labels: Sequence[str]) -> list[int]:
    """The numbers of classes that are given by name or number.

    Raises:
        UsageError: the model has no such class; names the nearest ones.
    """
    known: Mapping[str, int] = getattr(pipeline, "labels", None) or {}
    folded = {name.casefold(): number for name, number in known.items()}
    numbers = set(known.values())
    found = []
    for label in labels:
        if label.casefold() in folded:
            found.append(folded[label.casefold()])
        elif label.isdecimal():
            if numbers and int(label) not in numbers:
                raise UsageError(
                    f"the model has no class {label}; its classes are numbered "
                    f"{min(numbers)} to {max(numbers)}"
                )
            found.append(int(label))
        elif not known:
            raise UsageError(f"the model names no classes; give a number instead of {label!r}")
        else:
            near = _nearest_labels(label, known)
            hint = (
                f"nearest: {one_of(near)}"
                if near
                else f"some of its {len(known)}: {', '.join(list(known)[:8])}"
            )
            raise UsageError(f"the model has no class {label!r}; {hint}")
    return found


def _nearest_labels(label: str, known: Iterable[str]) -> list[str]:
    """Labels that are like a word, or one of whose words is."""
    by_word: dict[str, str] = {}
    for name in known:
        for word in (name.casefold(), *name.casefold().split()):
            by_word.setdefault(word, name)
    found = difflib.get_close_matches(label.casefold(), by_word, n=3, cutoff=0.6)
    return list(dict.fromkeys(by_word[word] for word in found))


def _missing(parameters: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Arguments without a default that nobody has given."""
    return [
        name
        for name, item in parameters.items()
        if name != "self"
        and item.default is item.empty
        and name not in given
        and item.kind not in (item.VAR_POSITIONAL, item.VAR_KEYWORD)
    ]


def _check_needed(cls: str, parameters: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    needed = _missing(parameters, given)
    for name, option in (("class_labels", "--label"), ("prompt", "--prompt")):
        if name in needed or (
            name == "prompt"
            and name in parameters
            and name not in given
            and "prompt_embeds" not in given
        ):
            raise UsageError(f"{cls} needs {option}")
    if needed:
        raise UsageError(
            f"{cls} needs {', '.join(needed)}; give it with --arg NAME=VALUE, where a value is "
            "plain data or stands for a tensor or a picture as in a probe: "
            f"--arg '{needed[0]}={{randn: [1, 77, 768]}}'; for others use the Python interface"
        )
