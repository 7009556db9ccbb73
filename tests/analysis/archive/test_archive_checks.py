"""Archives that are damaged, hostile or from elsewhere: one message each, and nothing is stored."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import load
from analysis.archive.exporting import export_studies
from analysis.archive.format import ArchiveError
from analysis.archive.importing import import_archive
from tests.analysis.archive.hostile import (
    Members,
    arrays,
    member,
    members_of,
    of_format_1,
    with_listing,
    write,
)

Change = Callable[[Members], Members]


@pytest.fixture(scope="module")
def members(store: Any, tmp_path_factory: pytest.TempPathFactory) -> Members:
    """An archive of two runs and of a reference, with all kinds of files."""
    generator = np.random.default_rng(0)
    planar = store.Run(
        "q2d2-hex",
        seed=1,
        histograms=[np.arange(49)],
        latents=[generator.normal(size=(20, 2))],
        snapshots={"steps": np.array([0, 9]), "pair_0": generator.normal(size=(2, 20, 2))},
        slices={"points_0": generator.normal(size=(4, 2)), "explained_0": np.array([0.3, 0.2])},
        audio=0.01,
    )
    outside = store.Run("opus", quantizer="reference:opus", tags={"reference": "true"})
    store.study("hostile", [store.Run("fsq"), planar, outside])
    path = tmp_path_factory.mktemp("hostile") / "whole.zip"
    extras = ("latents", "snapshots", "slices", "audio")
    assert export_studies(["hostile"], path, store.uri, extras=extras) == 4
    return members_of(path)


@pytest.fixture(scope="module")
def old_members(members: Members) -> Members:
    """The same archive as codecbench 0.1 wrote it."""
    return of_format_1(members)


def in_run(change: Callable[[dict[str, Any]], object]) -> Change:
    """A change of the first run in `archive.json` that is a training, neither the parent nor a reference."""

    def apply(members: Members) -> Members:
        def change_one(listing: dict[str, Any]) -> None:
            tags = [run["tags"] for run in listing["runs"]]
            trained = [
                each["codecbench.kind"] == "run" and "codecbench.reference" not in each for each in tags
            ]
            change(listing["runs"][trained.index(True)])

        return with_listing(members, change_one)

    return apply


def replaced(end: str, content: bytes) -> Change:
    return lambda members: {**members, member(members, end): content}


def added(name: str, content: bytes = b"{}") -> Change:
    """A file of the first run that has a name of its own."""

    def apply(members: Members) -> Members:
        folder = member(members, "latents.npz").rpartition("/")[0]
        return {**members, name.replace("RUN", folder): content}

    return apply


def without(end: str) -> Change:
    return lambda members: {name: c for name, c in members.items() if name != member(members, end)}


def parquet(**columns: Any) -> bytes:
    buffer = io.BytesIO()
    pd.DataFrame(columns).to_parquet(buffer)
    return buffer.getvalue()


def tag(name: str, value: Any) -> Change:
    return in_run(lambda run: run["tags"].update({f"codecbench.{name}": value}))


def metric(name: str, value: Any) -> Change:
    return in_run(lambda run: run["metrics"].update({name: value}))


def top(**values: Any) -> Change:
    return lambda members: with_listing(members, lambda listing: listing.update(values))


LISTING: dict[str, tuple[Change, str]] = {
    "an id that is a number": (
        in_run(lambda run: run.update(id=7)),
        r"runs\[\d\].id: must be a text",
    ),
    "an id that is a path": (in_run(lambda run: run.update(id="../x")), "is not the id of a run"),
    "an id that is empty": (in_run(lambda run: run.update(id="")), "is not the id of a run"),
    "a study outside": (in_run(lambda run: run.update(study="../../x")), "is not the name of a study"),
    "no name": (in_run(lambda run: run.update(name="")), r"name: "),
    "a name with an escape": (in_run(lambda run: run.update(name="\x1b[2J")), "control character"),
    "a status that is none": (
        in_run(lambda run: run.update(status="DONE")),
        r"status: must be 'RUNNING'",
    ),
    "a negative time": (in_run(lambda run: run.update(start_time=-1)), "must be at least 0"),
    "a time in text": (
        in_run(lambda run: run.update(start_time="now")),
        "start_time: must be a whole number",
    ),
    "a time beyond 64 bits": (in_run(lambda run: run.update(end_time=2**70)), "end_time: "),
    "a time that is true": (
        in_run(lambda run: run.update(end_time=True)),
        "end_time: must be a whole number",
    ),
    "no tags": (in_run(lambda run: run.update(tags=None)), "tags: must be keys with values"),
    "a tag that is none": (tag("seed", None), "tags.codecbench.seed: must be a text"),
    "a tag of somebody else": (
        in_run(lambda run: run["tags"].update({"mlflow.user": "x"})),
        "not a tag of codecbench",
    ),
    "a tag too long": (tag("label", "x" * 9000), "longer than 8000 characters"),
    "a seed that is no number": (tag("seed", "one"), "'one' is no whole number"),
    "a status tag that is none": (tag("status", "great"), "'great' is not one of running"),
    "a flag that is none": (tag("reference", "yes"), "'yes' is neither true nor false"),
    "a hash with a quote": (tag("run_hash", "a' or 'b"), "is no hash"),
    "a kind that is none": (tag("kind", "warm start"), "is neither 'run' nor 'study'"),
    "rows that are a list": (tag("rows.0", "[]"), "not labels by run hash"),
    "rows nested": (tag("rows.0", "[" * 7000), "not labels by run hash"),
    "rows with an escape": (tag("rows.0", json.dumps({"a": "\x1b"})), "control character"),
    "metrics that are a list": (
        in_run(lambda run: run.update(metrics=[1])),
        "metrics: must be keys with values",
    ),
    "a metric in text": (metric("eval/stoi", "0.9"), "metrics.eval/stoi: must be a number"),
    "a metric without a value": (
        metric("eval/stoi", None),
        "metrics.eval/stoi: must be a number",
    ),
    "a metric that is true": (metric("eval/stoi", True), "metrics.eval/stoi: must be a number"),
    "a metric beyond sums": (metric("eval/stoi", 1e300), "is beyond 1e"),
    "a count that is none": (metric("eval/stoi_asked", 0.5), "0.5 is no count"),
    "tokens beyond counting": (metric("usage/tokens", 1e14), "is no count"),
    "bits beyond counting": (metric("rate/bits_per_frame", 1e5), "is no number of bits"),
    "a metric of no name": (metric("a\nb", 1.0), "is not a name that MLflow takes"),
    "a parameter that leaves": (
        in_run(lambda run: run["params"].update({"../x": "y"})),
        "is not a name that MLflow",
    ),
    "a parameter that is a number": (
        in_run(lambda run: run["params"].update(a=1)),
        "params.a: must be",
    ),
    "a key too many": (
        in_run(lambda run: run.update(artifact_uri="/etc")),
        "artifact_uri: is not a known key",
    ),
    "a run twice": (lambda m: with_listing(m, lambda x: x["runs"].append(x["runs"][0])), "is there twice"),
    "runs that are none": (top(runs={}), "runs: must be a list"),
    "a format in text": (top(format="1"), "format: must be a whole number"),
    "no JSON": (replaced("archive.json", b"{"), "archive.json: Invalid JSON"),
    "JSON nested": (replaced("archive.json", b"[" * 10**6), "archive.json: Invalid JSON: recursion limit"),
    "JSON in another encoding": (replaced("archive.json", b"\xff{}"), "archive.json: Invalid JSON"),
    "no listing": (without("archive.json"), "archive.json: is not there"),
}

HUGE_ARRAY = (
    b"\x93NUMPY\x01\x00v\x00"
    + b"{'descr': '<i8', 'fortran_order': False, 'shape': (99999999999,), }".ljust(118)
)


def npz(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


SCORES = {"utterance": ["a", "b"], "metric": ["stoi"] * 2, "value": [0.5, 0.6], "status": ["ok"] * 2}
CURVES = {"run": ["x"], "metric": ["train/loss"], "step": [1], "value": [1.0]}
FILES: dict[str, tuple[Change, str]] = {
    "a file elsewhere": (added("../evil.txt"), r"\.\./evil\.txt: is not a file of a run in the listing"),
    "a file at the top": (added("evil.py"), r"evil\.py: is not a file of a run"),
    "a file of no run": (added("artifacts/0123/usage.json"), "is not a file of a run in the listing"),
    "a file of another kind": (added("RUN/evil.pkl"), r"evil\.pkl: is not a file of a run"),
    "a file that climbs": (added("RUN/../../x"), "is not a file of a run"),
    "audio in a folder": (added("RUN/audio/a/b.flac"), "has a name that no file of a run has"),
    "no histories": (without("histories.parquet"), r"histories\.parquet: is not there"),
    "a finished run without scores": (without("utterances.parquet"), "is not there, and the run finished"),
    "a finished run without its configuration": (
        without("config.yaml"),
        "is not there, and the run finished",
    ),
    "scores that are none": (replaced("utterances.parquet", b"PAR1"), "utterances.parquet: "),
    "scores without values": (
        replaced("utterances.parquet", parquet(utterance=["a"], metric=["b"], status=["ok"])),
        "the columns are utterance, metric, status, not utterance, metric, value",
    ),
    "scores in text": (
        replaced("utterances.parquet", parquet(**{**SCORES, "value": ["1", "2"]})),
        "not a number",
    ),
    "scores beyond sums": (
        replaced("utterances.parquet", parquet(**{**SCORES, "value": [1e300, 1]})),
        "is not a score",
    ),
    "scores without end": (
        replaced("utterances.parquet", parquet(**{**SCORES, "value": [float("inf"), 1]})),
        "inf is not a score",
    ),
    "scores of numbers": (
        replaced("utterances.parquet", parquet(**{**SCORES, "utterance": [1, 2]})),
        "not a text",
    ),
    "scores with gaps": (
        replaced("utterances.parquet", parquet(**{**SCORES, "status": ["ok", None]})),
        "has gaps",
    ),
    "two scores of one": (
        replaced("utterances.parquet", parquet(**{**SCORES, "utterance": ["a", "a"]})),
        "has two scores by one metric",
    ),
    "names with an escape": (
        replaced("utterances.parquet", parquet(**{**SCORES, "utterance": ["\x1b[2J", "a"]})),
        "has a control character",
    ),
    "curves of no run": (replaced("histories.parquet", parquet(**CURVES)), "'x' is not in the listing"),
    "curves in text": (replaced("histories.parquet", parquet(**{**CURVES, "step": ["1"]})), "not a whole"),
    "curves of a negative step": (
        replaced("histories.parquet", parquet(**{**CURVES, "step": [-1]})),
        "is negative",
    ),
    "histograms that are none": (replaced("histograms.npz", b"no zip"), "File is not a zip file"),
    "a histogram of floats": (
        replaced("histograms.npz", arrays(factor_0=np.ones(3))),
        "values of the kind float64",
    ),
    "a histogram of a plane": (
        replaced("histograms.npz", arrays(factor_0=np.ones((3, 3), int))),
        "has the shape",
    ),
    "a negative histogram": (
        replaced("histograms.npz", arrays(factor_0=np.array([-1]))),
        "values that cannot be",
    ),
    "a histogram of objects": (
        replaced(
            "histograms.npz",
            npz(
                "factor_0.npy",
                b"\x93NUMPY\x01\x00v\x00"
                + b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(118)
                + b"\x80\x04.",
            ),
        ),
        "values of the kind object",
    ),
    "an array that says it is huge": (
        replaced("histograms.npz", npz("factor_0.npy", HUGE_ARRAY)),
        "has 0 bytes",
    ),
    "an array of another name": (
        replaced("histograms.npz", arrays(evil=np.ones(3, int))),
        "is not an array of such",
    ),
    "latents without an end": (replaced("latents.npz", arrays(pair_0=np.full((3, 2), np.inf))), "cannot be"),
    "snapshots of the wrong shape": (
        replaced("snapshots.npz", arrays(steps=np.ones((2, 2)))),
        "has the shape",
    ),
    "use that is a list": (replaced("usage.json", b"[]"), "is not a list of names and values"),
    "use nested": (replaced("usage.json", b"[" * 10**5), "is nested too deeply"),
    "a configuration of bytes": (replaced("config.yaml", b"\xff\xfe"), r"config\.yaml: 'utf-8' codec"),
    "audio that is none": (replaced(".flac", b"fLaC"), r"\.flac: "),
    "names of audio that are numbers": (
        added("RUN/audio/utterances.json", b'{"a": 1}'),
        "a name that is no text",
    ),
}


def in_texts(change: Callable[[dict[str, Any]], object]) -> Change:
    """A change of `texts.json`."""

    def apply(members: Members) -> Members:
        values = json.loads(members["texts.json"])
        change(values)
        return {**members, "texts.json": json.dumps(values).encode()}

    return apply


def text_of_one(name: str, content: Any) -> Change:
    return in_texts(lambda values: values[min(values)].update({name: content}))


def scores_of_one(**columns: Any) -> Change:
    """`scores.parquet` with the scores of one run alone, of these columns."""

    def apply(members: Members) -> Members:
        run = min(json.loads(members["texts.json"]))
        table = {"run": [run] * 2, **SCORES, **columns}
        return {**members, "scores.parquet": parquet(**table)}

    return apply


def counts_of_one(**columns: Any) -> Change:
    """`counts.parquet` with the counts of one run alone, of these columns; `run` may be a number of rows."""

    def apply(members: Members) -> Members:
        table: dict[str, Any] = {"run": 2, "array": ["factor_0"] * 2, "count": [1, 2], **columns}
        if isinstance(table["run"], int):
            table["run"] = [min(json.loads(members["texts.json"]))] * table["run"]
        return {**members, "counts.parquet": parquet(**table)}

    return apply


TOGETHER: dict[str, tuple[Change, str]] = {
    "no scores": (without("scores.parquet"), r"scores\.parquet: is not there"),
    "no texts": (without("texts.json"), r"texts\.json: is not there"),
    "scores of one run only": (scores_of_one(), "utterances.parquet: is not there, and the run finished"),
    "scores of no run": (scores_of_one(run=["x", "x"]), "run: 'x' is not in the listing"),
    "scores in turns": (
        lambda members: {
            **members,
            "scores.parquet": parquet(
                run=[*sorted(json.loads(members["texts.json"]))[:2]] * 2,
                utterance=list("aabb"),
                metric=["stoi"] * 4,
                value=[0.5] * 4,
                status=["ok"] * 4,
            ),
        },
        "is there twice",
    ),
    "two scores of one": (scores_of_one(utterance=["a", "a"]), "has two scores by one metric"),
    "scores beyond sums": (scores_of_one(value=[1e300, 1]), "is not a score"),
    "half of a column": (scores_of_one(backend=["torch", None]), "backend: has gaps within a run"),
    "gaps in a column": (scores_of_one(status=["ok", None]), "status: has gaps"),
    "a column too many": (scores_of_one(evil=["a", "b"]), "the columns are"),
    "scores that are none": (replaced("scores.parquet", b"PAR1"), r"scores\.parquet: "),
    "no counts": (without("counts.parquet"), r"counts\.parquet: is not there"),
    "counts of no run": (counts_of_one(run=["x"] * 2), "run: 'x' is not in the listing"),
    "counts below zero": (counts_of_one(count=[1, -1]), "count: is negative"),
    "counts of halves": (counts_of_one(count=[0.5, 1.0]), "count: is double, not a whole"),
    "an array of another name": (counts_of_one(array=["evil"] * 2), "'evil' is not an array of counts"),
    "an array that climbs": (counts_of_one(array=["../factor_0"] * 2), "is not an array of counts"),
    "an array in turns": (
        counts_of_one(run=3, array=["factor_0", "factor_1", "factor_0"], count=[1, 2, 3]),
        "array: factor_0 of .* is there twice",
    ),
    "texts in a list": (replaced("texts.json", b"[]"), "is not a list of names and values"),
    "texts nested": (replaced("texts.json", b"[" * 10**5), "is nested too deeply"),
    "texts of no run": (in_texts(lambda values: values.update(x={})), "'x' is not in the listing"),
    "texts that are none": (
        in_texts(lambda values: values.update({min(values): 1})),
        "has a file that is none",
    ),
    "a text that climbs": (text_of_one("../evil", "x"), "has a file that is none of config.yaml"),
    "a text that is a number": (text_of_one("usage.json", 7), "usage.json: is not a text"),
    "use that is a list": (text_of_one("usage.json", "[]"), "usage.json: is not a list of names"),
    "a text too long": (
        text_of_one("config.yaml", np.random.default_rng(0).bytes(2**20).hex()),
        "config.yaml: is longer than a mebibyte",
    ),
    "a text twice": (added("RUN/config.yaml", b"x"), "config.yaml: is there twice"),
}


@pytest.mark.parametrize("case", [*LISTING, *FILES, *(f"together: {name}" for name in TOGETHER)])
def test_what_export_does_not_write_is_refused_and_nothing_is_stored(
    members: Members, old_members: Members, tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = case.removeprefix("together: ")
    change, told = TOGETHER[name] if name != case else {**LISTING, **FILES}[case]
    path = write(tmp_path / "bad.zip", change(old_members if case in FILES else members))
    with pytest.raises(ArchiveError, match=told) as error:
        import_archive(path, "sqlite:///mlflow.db")
    message = str(error.value)
    assert "\n" not in message
    assert "\x1b" not in message
    assert len(message) < 700
    assert "Remedy: get the file again" in message
    assert [each.name for each in tmp_path.iterdir()] == ["bad.zip"]


def raw(members: Members, change: Callable[[zipfile.ZipFile, zipfile.ZipInfo], None], path: Path) -> Path:
    """A zip in which one member has another header."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
        change(archive, archive.infolist()[0])
    return path


def refused(path: Path, told: str) -> None:
    with pytest.raises(ArchiveError, match=told):
        import_archive(path, f"sqlite:///{path.parent}/mlflow.db")
    assert not (path.parent / "mlflow.db").exists()


def test_links_encryption_and_repeated_names_are_refused(members: Members, tmp_path: Path) -> None:
    def link(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
        info.external_attr = 0o120777 << 16

    def encrypted(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
        info.flag_bits |= 1

    refused(raw(members, link, tmp_path / "link.zip"), "is a link")
    refused(raw(members, encrypted, tmp_path / "encrypted.zip"), "is encrypted")
    with (
        zipfile.ZipFile(write(tmp_path / "twice.zip", members), "a") as archive,
        pytest.warns(UserWarning, match="Duplicate name"),
    ):
        archive.writestr("archive.json", b"{}")
    refused(tmp_path / "twice.zip", r"archive\.json: is there twice")
    with zipfile.ZipFile(tmp_path / "lzma.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("archive.json", b"{}" * 100)
    refused(tmp_path / "lzma.zip", "packed in a way that export does not use")
    (tmp_path / "folder.zip").mkdir()
    refused(tmp_path / "folder.zip", "is not a file")


def test_an_archive_of_the_first_format_holds_the_same(
    members: Members, old_members: Members, tmp_path: Path
) -> None:
    found = []
    for name, each in (("new", members), ("old", old_members)):
        uri = f"sqlite:///{tmp_path}/{name}.db"
        assert import_archive(write(tmp_path / f"{name}.zip", each), uri) == (4, 0)
        found.append(load("hostile", uri))
    for frame in ("runs", "utterances", "usage", "histories"):
        one, other = (getattr(results, frame).drop(columns="run_id") for results in found)
        pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_a_folder_in_the_zip_does_no_harm(members: Members, tmp_path: Path) -> None:
    path = write(tmp_path / "again.zip", {**members, "artifacts/": b""})
    assert import_archive(path, f"sqlite:///{tmp_path}/mlflow.db") == (4, 0)


def test_bombs_are_told_by_their_size(members: Members, old_members: Members, tmp_path: Path) -> None:
    bomb = b" " * 2**27
    refused(
        write(tmp_path / "listing.zip", {**members, "archive.json": bomb}),
        "would grow by more than 100 times",
    )
    use = {**old_members, member(old_members, "usage.json"): bomb}
    refused(write(tmp_path / "member.zip", use), r"usage\.json: would grow by more than 100 times")
    texts = {**members, "texts.json": bomb}
    refused(write(tmp_path / "texts.zip", texts), r"texts\.json: would grow by more than 100 times")
    path = tmp_path / "many.zip"
    run = member(members, "latents.npz").rpartition("/")[0]
    many = {f"{run}/audio/{number}.flac": bytes(2**20) for number in range(60)}
    refused(write(path, {**members, **many}), "the zip: would grow by more than 100 times")


def test_a_flipped_byte_is_told_before_anything_is_stored(members: Members, tmp_path: Path) -> None:
    path = write(tmp_path / "whole.zip", members)
    content = bytearray(path.read_bytes())
    place = content.find(b"scores.parquet") + 200
    content[place : place + 50] = b"\xff" * 50
    path.write_bytes(content)
    refused(path, r"scores\.parquet: ")


def test_control_characters_of_a_reason_do_not_reach_the_terminal(members: Members, tmp_path: Path) -> None:
    path = write(tmp_path / "told.zip", tag("reason", "\x1b[31mout of\tmemory")(members))
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    import_archive(path, uri)
    assert " [31mout of\tmemory" in set(load("hostile", uri).runs["reason"])
