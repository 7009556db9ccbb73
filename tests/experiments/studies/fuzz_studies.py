"""Throw random and mutated study files and options at the reader: only messages, no hang, bounded memory.

    python -m tests.experiments.studies.fuzz_studies SECONDS [--random]

Runs in a process of its own, whose memory is limited. Whatever is accepted must survive the expansion into
runs and a plan. Prints how much was tried; the first failure with its input, and exit code 1.
"""

import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import quantizers
from codec import backbones, references
from codec.losses import objectives
from experiments.planning import live_outline
from experiments.planning.outline import PlannedCorpus
from experiments.studies import files, plain_yaml, reference_runs, runs, study
from experiments.studies.axes import model_in, number_of_places
from quantizers import registry

MEMORY = 8 * 2**30  # bytes of address space; torch alone maps three of them
DEADLINE = 30.0  # seconds of computing for one input
MOST_RUNS = 200  # of a study that is expanded: more take their time by right
REFUSALS = (files.StudyError, quantizers.QuantizerError, backbones.BackboneError)
REFUSALS += (objectives.ObjectiveError, references.ReferenceCodecError, plain_yaml.PlainYAMLError)

HOSTILE = [
    *(None, True, False, "", " ", "x", "none", "fsq", "vq", "q2d2-hex", "lattice", "demo", "a\nb", "[v2]"),
    *(0, 1, 2, 3, 7, 8, 9, 16, 31, 64, 512, 1000, 4096, 10**6, 10**9, 2**31, 2**63 - 1, 2**63, 10**40, -1),
    *(0.5, 1.5, 1e-3, 1e-300, 1e9, 1e300, -0.1, 0.9999999, "1e-3", "5", "012", "1:30", ".inf", "α"),
    *([], {}, [[]], [1], [7, 7], [[7, 7], [9, 9]], [3] * 600, {"name": "fsq"}, {"a": {"b": 1}}, [1, "a"]),
    *("opus:6000", "folder:/x", "webdataset:{0..99999999}", "x" * 300, "bits", "train.steps"),
    *([["bits", "seeds"]], [["bits", "train.steps"]], "train"),
]
TOKENS = [
    *(".inf", ".nan", "012", "1:30", "1e-3", "!!set {a}", "&a [*a]", "*a", "<<: *a", "{", "[", "- ", ": "),
    *('"\\0"', '"\\ud800"', "---", "? [a]", "yes", "9" * 50, "\t", "#", "~", "[[1, 2], [3, 4]]", "{}", "|"),
    *("'", "%TAG"),
]

scalars = (
    st.sampled_from(HOSTILE)
    | st.integers(-(2**70), 2**70)
    | st.integers(0, 40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


class TooLong(Exception):
    """An input took more than `DEADLINE` seconds of computing."""


class TimeIsUp(Exception):
    """All inputs that there was time for have been tried."""


@contextmanager
def deadline() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TooLong

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, DEADLINE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


class Corpora(dict[tuple[str, int], runs.CorpusIdentity]):
    """An identity for whatever corpus is asked for."""

    def __missing__(self, key: tuple[str, int]) -> runs.CorpusIdentity:
        return runs.CorpusIdentity(spec=key[0], name=key[0], content_hash="abc", synthetic=True)


def expect(condition: bool, why: str) -> None:
    if not condition:
        raise AssertionError(why)


def known_keys() -> list[str]:
    """Dotted keys of study files."""
    keys = []

    def below(model: Any, prefix: str) -> None:
        for name, field in model.model_fields.items():
            keys.append(prefix + name)
            if (inner := model_in(field.annotation)) is not None:
                below(inner, f"{prefix}{name}.")

    below(study.Study, "")
    return [*keys, "zip", "extends", "train.objective.options.mel", "backbone.options.width"]


KEYS = known_keys()


@st.composite
def mutated_values(draw: st.DrawFn) -> str:
    """A shipped study with a few values replaced, as YAML."""
    content, _ = files.read(draw(st.sampled_from(files.available())))
    for _ in range(draw(st.integers(1, 3))):
        here: Any = content
        *parents, last = draw(st.sampled_from(KEYS)).split(".")
        for parent in parents:
            if not isinstance(here.get(parent), dict):
                here[parent] = {}
            here = here[parent]
        here[last] = draw(values)
    if isinstance(content.get("quantizers"), list) and draw(st.booleans()):
        name = draw(st.sampled_from(quantizers.available()))
        options = draw(
            st.dictionaries(st.sampled_from(quantizers.options(name) or ("x",)), values, max_size=3)
        )
        content["quantizers"] = [*content["quantizers"], {"name": name, "label": "own", "options": options}]
    return yaml.safe_dump(content, allow_unicode=True)


@st.composite
def mutated_text(draw: st.DrawFn) -> str:
    """The text of a shipped study with lines and words exchanged."""
    name = draw(st.sampled_from(files.available()))
    lines = (files._shipped() / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    for _ in range(draw(st.integers(1, 5))):
        place = draw(st.integers(0, len(lines) - 1))
        kind = draw(st.sampled_from(("twice", "without", "token", "cut", "letters")))
        if kind == "twice":
            lines.insert(draw(st.integers(0, len(lines))), lines[place])
        elif kind == "without" and len(lines) > 1:
            del lines[place]
        elif kind == "token":
            before, colon, _ = lines[place].partition(":")
            lines[place] = f"{before}{colon} {draw(st.sampled_from(TOKENS))}"
        elif kind == "cut":
            at = draw(st.integers(0, len(lines[place])))
            lines[place] = lines[place][:at]
        else:
            at = draw(st.integers(0, len(lines[place])))
            lines[place] = lines[place][:at] + draw(st.text(max_size=5)) + lines[place][at:]
    return "\n".join(lines)


@st.composite
def options_of(draw: st.DrawFn) -> tuple[str, dict[str, Any], float | None]:
    """A quantizer with random options, and bits or none."""
    name = draw(st.sampled_from(quantizers.available()))
    hints = registry.get_type_hints(registry.entry(name).cls.config_class)
    options = {}
    for key in draw(st.lists(st.sampled_from(quantizers.options(name) or ("x",)), max_size=4, unique=True)):
        likely = st.integers(-1, 40)
        if "tuple" in str(hints.get(key)):
            likely = st.lists(st.integers(-1, 20), max_size=8) | st.lists(likely, min_size=24, max_size=24)
        elif hints.get(key) is float:
            likely = st.floats(-1, 2)
        elif hints.get(key) is str:
            likely = st.sampled_from(
                ["cell", "edge", "unit", "rotation", "E8", "Z", "Leech", "voronoi", "tanh"]
            )
        elif hints.get(key) is bool:
            likely = st.booleans()
        options[key] = draw(likely | values)
    return (
        name,
        options,
        draw(st.none() | st.floats(0, 200) | scalars.filter(lambda x: type(x) in (int, float))),
    )


tried: Counter[str] = Counter()


def try_study(text: str) -> None:
    """A study file: refused with a message, or expanded and planned."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fuzz.yaml"
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        try:
            content, source = files.read(str(path))
            loaded = study.check(content, source)
        except files.StudyError as error:
            expect(len(str(error)) < 20_000, f"a message of {len(str(error))} characters")
            expect("fuzz.yaml" in str(error), f"the message does not name the file: {error}")
            tried["study refused"] += 1
            return
    rows = number_of_places(loaded.axes) * len(loaded.quantizers)
    if rows * len(loaded.seeds) > MOST_RUNS:
        tried["study too large to plan"] += 1
        return
    try:
        made = runs.expand(loaded, Corpora())
        made_too = reference_runs.expand(loaded, Corpora())
        hashes = [run.hash for run in (*made, *made_too)]
        corpora = [PlannedCorpus(spec=one.spec, sample_rate=one.sample_rate) for one in runs.corpora(loaded)]
        planned = live_outline.outline_of(content, source, corpora, fewer_rows=False)
    except REFUSALS:  # two rows of one configuration; a dimension that a quantizer cannot have
        tried["study refused when expanded"] += 1
        return
    assert len(planned.runs) + len(planned.references) == len(hashes)
    again = study.Study.model_validate(loaded.model_dump(mode="json") | {"axes": ()})
    assert again.train == loaded.train
    tried["study planned"] += 1


def try_yaml(text: str) -> None:
    """Any text: a value or a message."""
    try:
        plain_yaml.read(text)
        tried["yaml read"] += 1
    except plain_yaml.PlainYAMLError:
        tried["yaml refused"] += 1


def try_quantizer(case: tuple[str, dict[str, Any], float | None]) -> None:
    """A quantizer: refused with its name, or built with the rate that it says."""
    name, options, bits = case
    try:
        quantizer = quantizers.create(name, dim=32, bits=bits, **options)
    except quantizers.QuantizerError as error:
        expect(name in str(error), f"the message does not name the quantizer: {error}")
        tried["quantizer refused"] += 1
        return
    assert quantizer.bits_per_frame >= 0
    assert quantizer.streams == len(quantizer.codebook_sizes)
    tried["quantizer built"] += 1


def try_options(case: tuple[str, str, dict[str, Any]]) -> None:
    """A backbone, an objective or a reference codec with random options."""
    kind, name, options = case
    try:
        if kind == "backbone":
            assert backbones.get(name, options).frame_rate > 0
        elif kind == "objective":
            assert objectives.get(name, options).least_samples > 0
        else:
            assert references.create(name, options).label
        tried[f"{kind} made"] += 1
    except REFUSALS:
        tried[f"{kind} refused"] += 1


def fields(cls: Any) -> list[str]:
    return list(cls.__dataclass_fields__) or ["x"]


@st.composite
def other_options(draw: st.DrawFn) -> tuple[str, str, dict[str, Any]]:
    kind = draw(st.sampled_from(("backbone", "objective", "reference")))
    if kind == "backbone":
        name = draw(st.sampled_from(backbones.available()))
        keys = fields(backbones.get(name))
    elif kind == "objective":
        name, keys = draw(st.sampled_from(list(objectives.PRESETS))), fields(objectives.Objective)
    else:
        name = draw(st.sampled_from(references.available()))
        keys = fields(references.get(name))
    return kind, name, draw(st.dictionaries(st.sampled_from(keys), values | st.integers(1, 64), max_size=4))


TRIES: tuple[tuple[Callable[[Any], None], st.SearchStrategy[Any], int], ...] = (
    (try_study, mutated_values(), 4),
    (try_study, mutated_text(), 2),
    (try_yaml, st.text() | st.lists(st.sampled_from(TOKENS) | st.text(max_size=3)).map(" ".join), 1),
    (try_quantizer, options_of(), 4),
    (try_options, other_options(), 1),
)


def fuzz(seconds: float, at_random: bool) -> None:
    """Try inputs for so long; the first that fails is raised with what it was."""
    options = settings(
        max_examples=10**9,
        deadline=None,
        database=None,
        derandomize=not at_random,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    shares = sum(share for _, _, share in TRIES)
    for attempt, strategy, share in TRIES:
        ends = time.monotonic() + seconds * share / shares
        with suppress(TimeIsUp):
            options(given(strategy)(until(ends, attempt)))()


def until(ends: float, attempt: Callable[[Any], None]) -> Callable[[Any], None]:
    """`attempt` of each input with a deadline, until the time `ends`. Raises TimeIsUp then."""

    def one(case: Any) -> None:
        if time.monotonic() > ends:
            raise TimeIsUp
        try:
            with deadline():
                attempt(case)
        except BaseException:
            print(f"FAILED {attempt.__name__}:")
            print(case if isinstance(case, str) else repr(case), flush=True)
            raise

    return one


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    random.seed(0)
    fuzz(float(sys.argv[1]), "--random" in sys.argv[2:])
    print(", ".join(f"{number} {name}" for name, number in sorted(tried.items())))


if __name__ == "__main__":
    main()
