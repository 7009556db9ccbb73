"""Random changes of an archive: import and table end well or with one of our messages, and quickly.

Longer, and with other changes each time: CODECBENCH_FUZZ_SECONDS=600, see CONTRIBUTING.md.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from analysis import load
from analysis.archive.exporting import export_studies
from analysis.archive.importing import import_archive
from analysis.figures.code_use import ranks, sizes, use_histogram
from analysis.figures.differences import differences_to_best
from analysis.figures.learning import curves
from analysis.figures.robustness import robustness_frame
from analysis.figures.trade_offs import cost_frame
from analysis.reports.answer import answer
from analysis.results.study_metrics import logged_metrics
from analysis.results.study_results import Results
from analysis.statistics.comparisons import bd_rates, ranks_across
from analysis.statistics.estimates import summary
from analysis.statistics.matched_rates import coded_labels, main_labels
from analysis.tables.comparison import comparison
from analysis.tables.formats import render
from experiments.tracking.store import Store
from tests.analysis.archive.hostile import Members, members_of, write

SECONDS = os.environ.get("CODECBENCH_FUZZ_SECONDS", "")
EXAMPLES = 150  # about 20 seconds
LONGEST = 15.0  # seconds of computing for one example

# Values that have been troublesome somewhere.
ODD: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**80), 2**80),
    st.sampled_from([0, -1, 1, 2**31, 2**53, 2**63, 1e308, -1e308, 5e-324, float("nan"), float("inf")]),
    st.floats(),
    st.sampled_from(
        ["", "0", "-1", "nan", "true", "../x", "/etc/passwd", "a" * 9000, "=1+1", "[" * 3000, "{}", "[]"]
    ),
    st.sampled_from(
        ["\x1b[2J", "\u202e", "é", "日本", "a\nb", "'", '"', "`", "%00", "null", "reference:", "none", "vq"]
    ),
    st.text(max_size=20),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
)


@pytest.fixture(scope="module")
def whole(store: Any, tmp_path_factory: pytest.TempPathFactory) -> Members:
    runs = [
        store.Run(label, seed=seed, bits=bits, utterances=3, histograms=[np.arange(5)])
        for label, bits in (("fsq", 12.0), ("vq", 12.0), ("none", 0.0))
        for seed in (0, 1)
    ]
    runs.append(store.Run("opus", quantizer="reference:opus", utterances=3, tags={"reference": "true"}))
    runs.append(store.Run("bad", status="diverged", reason="loss"))
    parent = store.study("fuzzed", runs)
    more = {"quantizers": '[{"name": "fsq"}]', "evaluate.metrics": '["stoi", "pesq"]'}
    for key, value in more.items():
        store.client.log_param(parent, key, value)
    path = tmp_path_factory.mktemp("whole") / "whole.zip"
    export_studies(["fuzzed"], path, store.uri)
    return members_of(path)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without runs: making one takes seconds."""
    folder = tmp_path_factory.mktemp("empty")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Store("sqlite:///mlflow.db", "other")
    return folder / "mlflow.db"


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where each value in nested lists and dictionaries stands."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inside:
        yield (*path, key)
        yield from places(below, (*path, key))


@st.composite
def listings(draw: st.DrawFn, content: bytes) -> bytes:
    """`archive.json` with some values changed, removed, moved or given other names."""
    listing = json.loads(content)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places(listing))))
        holder = listing
        for key in path[:-1]:
            holder = holder[key]
        kind = draw(st.sampled_from(["value", "value", "value", "swap", "remove", "rename", "twice"]))
        if kind == "value":
            holder[path[-1]] = draw(ODD)
        elif kind == "swap":
            other = draw(st.sampled_from(list(places(listing))))
            source = listing
            for key in other:
                source = source[key]
            holder[path[-1]] = copy.deepcopy(source)
        elif kind == "remove":
            del holder[path[-1]]
        elif kind == "rename" and isinstance(holder, dict):
            holder[draw(st.text(max_size=12))] = holder.pop(path[-1])
        elif kind == "twice" and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[path[-1]]))
    try:
        return json.dumps(listing).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):  # it holds itself by now
        return content


@st.composite
def flipped(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes changed, cut, doubled or put in."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(changed) - 1, 0)))
        length = draw(st.integers(1, 40))
        kind = draw(st.sampled_from(["flip", "flip", "cut", "double", "insert", "end"]))
        if kind == "flip" and changed:
            changed[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del changed[place : place + length]
        elif kind == "double":
            changed[place:place] = changed[place : place + length]
        elif kind == "insert":
            changed[place:place] = draw(st.binary(max_size=40))
        elif kind == "end":
            del changed[place:]
    return bytes(changed)


class Changed(NamedTuple):
    """Members, and whether the zip of them is to be changed, too; shown without all that they hold."""

    members: Members
    zipped: bool

    def __repr__(self) -> str:
        sizes = {name: len(content) for name, content in self.members.items() if len(name) < 60}
        return f"{sizes}, zipped: {self.zipped}"


@st.composite
def changes(draw: st.DrawFn, whole: Members) -> Changed:
    """An archive with one member changed, or two."""
    members = dict(whole)
    for _ in range(draw(st.integers(1, 2))):
        name = draw(st.sampled_from(sorted(members)))
        kind = draw(st.sampled_from(["listing"] * 6 + ["bytes"] * 3 + ["move", "remove", "swap", "zip"]))
        if kind == "listing" and "archive.json" in members:
            members["archive.json"] = draw(listings(whole["archive.json"]))
        elif kind == "bytes":
            members[name] = draw(flipped(members[name]))
        elif kind == "move":
            members[
                draw(st.one_of(st.text(min_size=1, max_size=20), st.just(f"{name}x"), st.just(f"../{name}")))
            ] = members[name]
        elif kind == "remove" and len(members) > 1:
            del members[name]
        elif kind == "swap":
            other = draw(st.sampled_from(sorted(members)))
            members[name], members[other] = members[other], members[name]
        elif kind == "zip":
            return Changed(members, True)
    return Changed(members, False)


def is_ours(error: Exception) -> bool:
    """Whether the command line ends with this as one message."""
    packages = ("analysis", "experiments", "codec", "quantizers")
    return isinstance(error, ValueError) and type(error).__module__.split(".")[0] in packages


def import_and_table(path: Path, uri: str, stages: list[str]) -> None:
    import_archive(path, uri)
    stages.append("imported")
    results = load("fuzzed", uri)
    table = comparison(results)
    for kind in ("csv", "markdown", "html", "latex", "console"):
        assert "\x1b" not in render(table, kind)
    stages.append("shown")
    frames_of(results)
    stages.append("drawn from")


def frames_of(results: Results) -> None:
    """What figures and reports are made from."""
    summary(results, references=True)
    sizes(results.finished)
    use_histogram(results.usage)
    ranks(results.usage)
    curves(results.histories)
    robustness_frame(results)
    differences_to_best(results, coded_labels(results))
    answer(results, main_labels(results))
    for metric in logged_metrics(results):
        cost_frame(results, metric)
        bd_rates(results, metric)
        ranks_across(results, metric)


def told(action: Callable[[], None]) -> str:
    """What the command line says of an error that it tells; any other is raised."""
    try:
        action()
    except Exception as error:
        if not is_ours(error):
            raise
        return str(error)
    return ""


@pytest.mark.slow
def test_any_archive_is_imported_or_refused_in_words(
    whole: Members, empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @settings(
        max_examples=EXAMPLES,
        derandomize=not SECONDS,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(changes(whole), st.data())
    def one(changed: Changed, data: st.DataObject) -> None:
        outside = tmp_path / uuid.uuid4().hex
        inside = outside / "inside"
        inside.mkdir(parents=True)
        stages.append("tried")
        monkeypatch.chdir(inside)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Duplicate name")
                path = write(inside / "some.zip", changed.members)
            if changed.zipped:
                path.write_bytes(data.draw(flipped(path.read_bytes())))
            shutil.copyfile(empty, inside / "mlflow.db")
            began = time.process_time()  # others may be busy on the machine
            assert "\n" not in told(lambda: import_and_table(path, f"sqlite:///{inside}/mlflow.db", stages))
            assert time.process_time() - began < LONGEST
            assert [each.name for each in outside.iterdir()] == ["inside"]
            assert {each.name for each in inside.iterdir()} <= {"some.zip", "mlflow.db", "mlruns"}
        finally:
            os.chdir(tmp_path)  # the folder goes; hypothesis asks where it is
            shutil.rmtree(outside)

    stages: list[str] = []
    end = time.monotonic() + float(SECONDS or 0)
    one()
    while time.monotonic() < end:
        one()
    assert stages.count("shown") > stages.count("tried") / 20, Counter(stages)
    print(Counter(stages))
