"""Studies that extend others, and lists in them as axes."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from analysis.results.labels import series
from experiments.studies import axes, reference_runs, runs, study
from experiments.studies.runs import CorpusIdentity
from experiments.studies.study import StudyError

CORPUS = CorpusIdentity(spec="demo", name="demo", content_hash="abc", synthetic=True)


def labels(quantizers: list[Any], **values: Any) -> list[str]:
    loaded = study.check({"name": "x", "quantizers": quantizers, **values}, "x.yaml")
    return [run.label for run in runs.expand(loaded, CORPUS)]


def ranges(values: list[str]) -> dict[str, Any]:
    return {"name": "fsq", "options": {"range": values}}


def write(folder: Path, file: str, **values: Any) -> str:
    (folder / f"{file}.yaml").write_text(yaml.safe_dump(values))
    return str(folder / f"{file}.yaml")


def test_rates_make_rate_distortion_curves_and_none_runs_once() -> None:
    found = labels(["none", "fsq", "q2d2-hex"], bits=[10, 12.5])
    assert found == ["none", "fsq 10 bit", "q2d2-hex 10 bit", "fsq 12.5 bit", "q2d2-hex 12.5 bit"]
    assert {series(label) for label in found} == {"none", "fsq", "q2d2-hex"}
    assert labels(["fsq"], bitrate=[1500, 2000]) == ["fsq 1.5 kbit/s", "fsq 2 kbit/s"]
    assert series("fsq 1.5 kbit/s") == "fsq"


def test_axes_are_a_grid_or_pairs() -> None:
    grid = labels(["none", "fsq"], bits=[8, 10], train={"steps": [5, 6]})
    assert grid == [
        *("none steps=5", "fsq steps=5 8 bit", "none steps=6", "fsq steps=6 8 bit"),
        *("fsq steps=5 10 bit", "fsq steps=6 10 bit"),
    ]
    pairs = labels(["fsq"], bits=[8, 10], train={"steps": [5, 6]}, zip=[["bits", "train.steps"]])
    assert pairs == ["fsq 8 bit", "fsq 10 bit"]
    alone = labels(["none"], bitrate=[2000, 3000], train={"steps": [5, 6]}, zip=["bitrate", "train.steps"])
    assert alone == ["none steps=5", "none steps=6"]
    loaded = study.check(
        {"name": "x", "quantizers": ["fsq"], "bits": [8, 10], "train": {"steps": [5, 6]}, "seeds": [0, 1]},
        "x",
    )
    assert [(run.seed, run.train.steps) for run in runs.expand(loaded, CORPUS)] == [
        (seed, steps) for seed in (0, 1) for _ in (8, 10) for steps in (5, 6)
    ]


def test_lists_in_a_quantizer_make_rows_and_lists_by_nature_do_not() -> None:
    assert labels([{"name": "fsq", "options": {"levels": [7, 7, 5]}}]) == ["fsq"]
    assert labels([{"name": "fsq", "options": {"levels": [[7, 7], [5, 5]]}}]) == [
        "fsq levels=7,7",
        "fsq levels=5,5",
    ]
    assert labels([{"name": ["q2d2-hex", "q2d2-rect"], "options": {"range": ["cell", "edge"]}}], bits=12) == [
        *("q2d2-hex range=cell", "q2d2-hex range=edge"),
        *("q2d2-rect range=cell", "q2d2-rect range=edge"),
    ]
    paired = {
        "options": {"range": ["cell", "edge"], "gradient": ["unit", "released"]},
        "zip": ["range", "gradient"],
    }
    assert labels([{"name": "q2d2-hex", **paired}], bits=12) == ["q2d2-hex range=cell", "q2d2-hex range=edge"]
    own = labels([{"name": "fsq", "bits": [8, 10]}], train={"steps": [5, 6]})
    assert own == ["fsq steps=5 8 bit", "fsq steps=5 10 bit", "fsq steps=6 8 bit", "fsq steps=6 10 bit"]
    named = labels([{"name": ["vq", "rvq"], "label": "small"}], bits=8)
    assert named == ["vq small", "rvq small"]
    strides = [[8, 5, 4, 2], [6, 5, 5, 4]]
    varied = labels(["fsq"], backbone={"name": "wavtokenizer-small", "options": {"strides": strides}}, bits=8)
    assert varied == ["fsq strides=8,5,4,2", "fsq strides=6,5,5,4"]


def test_sections_as_axes() -> None:
    warm = {"warm_start": [None, {"steps": 4}], "steps": 2}
    assert labels(["fsq"], train=warm) == ["fsq warm_start=none", "fsq warm_start=4"]
    assert labels(["fsq"], train={"warm_start": {"steps": [4, 5]}}) == ["fsq steps=4", "fsq steps=5"]
    both = labels(["fsq"], train={"warm_start": {"steps": [4, 5]}, "steps": [1, 2]})
    assert both[1] == "fsq warm_start.steps=4 train.steps=2"
    wide = {"name": "mdct-tiny", "options": {"width": 200}}
    assert labels(["fsq"], backbone=["mdct-tiny", wide]) == [
        "fsq backbone=mdct-tiny",
        "fsq backbone=mdct-tiny,200",
    ]


def test_each_cell_has_its_own_corpus_and_references_once_for_each() -> None:
    values = {
        "name": "x",
        "quantizers": ["fsq"],
        "data": ["demo", "folder:/b"],
        "backbone": ["mdct-tiny", {"name": "mdct-tiny", "options": {"sample_rate": 24_000}}],
        "references": ["ground-truth"],
    }
    loaded = study.check(values, "x")
    needed = [(one.spec, one.sample_rate) for one in runs.corpora(loaded)]
    assert needed == [("demo", 16_000), ("folder:/b", 16_000), ("demo", 24_000), ("folder:/b", 24_000)]
    prepared = {
        (spec, rate): CorpusIdentity(spec=spec, name=spec, content_hash=f"{spec} {rate}", synthetic=False)
        for spec, rate in needed
    }
    expanded = runs.expand(loaded, prepared)
    assert [run.corpus.content_hash for run in expanded] == [f"{spec} {rate}" for spec, rate in needed]
    assert len({run.hash for run in expanded}) == 4
    references = reference_runs.expand(loaded, prepared)
    assert len({run.hash for run in references}) == len({run.label for run in references}) == 4


def test_a_cell_is_the_run_that_a_plain_study_asks_for() -> None:
    whole = study.check(
        {"name": "x", "quantizers": ["none", "vq"], "bits": [8, 10], "train": {"steps": [5, 6]}}, "x"
    )
    expanded = {run.label: run.hash for run in runs.expand(whole, CORPUS)}
    for steps in (5, 6):
        for bits in (8, 10):
            plain = study.check(
                {"name": "y", "quantizers": ["none", "vq"], "bits": bits, "train": {"steps": steps}}, "y"
            )
            none, vq = runs.expand(plain, CORPUS)
            assert expanded[f"none steps={steps}"] == none.hash
            assert expanded[f"vq steps={steps} {bits} bit"] == vq.hash


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"bits": []}, "x.yaml: bits: the list is empty"),
        ({"bits": [8, 8]}, "bits: a value is given twice"),
        (
            {"bits": [8, 10], "train": {"steps": [5]}, "zip": [["bits", "train.steps"]]},
            "bits has 2 and train.steps has 1",
        ),
        (
            {"bits": [8, 10], "zip": [["bits", "train.steps"]]},
            "train.steps has no list of values; .*: bits",
        ),
        (
            {"bits": [8, 10], "train": {"steps": [5, 6]}, "zip": [["bits", "train.stops"]]},
            "train.stops has no list of values; did you mean 'train.steps'",
        ),
        (
            {"bits": [8, 10], "train": {"freze": [["encoder"], []]}, "zip": [["bits", "train.freze"]]},
            "unknown key 'train.freze'; did you mean 'freeze'",
        ),
        ({"bits": [8, 10], "zip": [["bits"]]}, "zip: write lists of keys"),
        (
            {"bits": [8, 10], "train": {"steps": [5, 6]}, "zip": [["bits", "train.steps"]] * 2},
            "is given twice",
        ),
        ({"bits": [8, -1]}, r"bits: must be greater than 0 \(got -1\)"),
        (
            {"train": {"steps": [5, -1]}},
            r"train.steps: must be at least 0 \(got -1\)",
        ),
        ({"bits": [8], "bitrate": [900]}, "bits and bitrate both fix the rate"),
        ({"backbone": ["mdct-tiny", "mdct-tinny"]}, "backbone: unknown backbone 'mdct-tinny'"),
        ({"axes": {"bits": [1]}}, "axes: not for study files; give a list in place"),
        ({"quantizers": ["vq", ranges([])]}, "quantizers.1: range: the list is empty"),
        ({"quantizers": ["vq", ranges(["cell", "egde"])]}, "quantizers.1: fsq: range must be"),
        (
            {"quantizers": [ranges(["cell", "edge"]), {"name": "vq", "lable": "a"}]},
            "key 'quantizers.1.lable'",
        ),
    ],
)
def test_errors_name_the_file_the_key_and_the_remedy(values: dict[str, Any], words: str) -> None:
    with pytest.raises(StudyError, match=words):
        study.check({"name": "x", "quantizers": ["fsq"], **values}, "x.yaml")


def test_two_rates_that_come_to_one_configuration_are_refused() -> None:
    leech = {"name": "lattice", "label": "Leech", "options": {"lattice": "Leech", "blocks": 1}}
    with pytest.raises(
        StudyError, match="'Leech 12 bit' and 'Leech 13 bit' have the same configuration, lattice"
    ):
        labels([leech], bits=[12, 13])


def test_extends(tmp_path: Path) -> None:
    write(
        tmp_path, "under", name="under", question="why", quantizers=["vq", "fsq"], bits=12, train={"steps": 5}
    )
    mine = write(tmp_path, "mine", extends="under.yaml", name="mine", bitrate=3000, train={"batch_size": 2})
    loaded = study.load(mine)
    assert (loaded.name, loaded.question, loaded.bits, loaded.bitrate) == ("mine", "", None, 3000)
    assert (loaded.train.steps, loaded.train.batch_size) == (5, 2)
    (tmp_path / "deep").mkdir()
    deep = write(tmp_path / "deep", "deep", extends="../mine.yaml", name="deep", quantizers=["rvq"])
    assert [choice.name for choice in study.load(deep).quantizers] == ["rvq"]
    assert study.load(deep).train.batch_size == 2
    shipped = write(
        tmp_path, "shipped", extends="quickstart", name="shipped", backbone={"options": {"width": 32}}
    )
    backbone = study.load(shipped).backbone
    assert (backbone.name, backbone.options) == ("mdct-tiny", {"width": 32})
    assert study.load(shipped, ["bitrate=3000"]).bits is None


def test_extends_errors_name_the_chain(tmp_path: Path) -> None:
    first = write(tmp_path, "a", extends="b.yaml", name="a")
    write(tmp_path, "b", extends="a.yaml", name="b")
    with pytest.raises(StudyError, match=r"a.yaml extends .*b.yaml extends .*a.yaml: .* in a circle"):
        study.load(first)
    with pytest.raises(StudyError, match=r"a.yaml: extends: no study 'quikstart'; did you mean 'quickstart'"):
        study.load(write(tmp_path, "a", extends="quikstart", name="a"))
    with pytest.raises(StudyError, match=r"cannot read the study file .*nowhere.yaml.*a.yaml extends"):
        study.load(write(tmp_path, "a", extends="nowhere.yaml", name="a"))
    with pytest.raises(StudyError, match="extends: name one shipped study or one file"):
        study.load(write(tmp_path, "a", extends=["x"], name="a"))
    with pytest.raises(StudyError, match="the key 'name' is missing"):
        study.load(write(tmp_path, "a", extends="quickstart"))


def test_a_list_is_taken_for_an_axis_by_the_type_of_its_key() -> None:
    assert not axes.is_axis([1, 2], tuple[int, ...])
    assert axes.is_axis([[1, 2], [3]], tuple[int, ...])
    assert axes.is_axis([1, 2], int | None)
    assert axes.is_axis(["a"], str)
    assert not axes.is_axis("ab", str)
    assert not axes.is_axis([1, 2], tuple[int, ...] | None)


def test_the_series_of_a_row_is_its_label_without_its_rate() -> None:
    rows = [
        "none",
        {"name": "fsq", "label": "trained for 5 bit"},  # ends as a rate does, and is none
        {"name": "vq", "bits": [8, 10]},
        {"name": "rvq", "bits": 9, "label": "two stages 9 bit"},
        {"name": "q2d2-hex", "options": {"range": ["cell", "edge"]}},
    ]
    loaded = study.check(
        {"name": "x", "quantizers": rows, "bits": [8, 12.5], "train": {"steps": [5, 6]}}, "x"
    )
    series_of = {run.label: run.series for run in runs.expand(loaded, CORPUS)}
    assert set(series_of) == set(loaded.series())
    assert series_of["none steps=5"] == "none steps=5"
    assert series_of["trained for 5 bit steps=6 12.5 bit"] == "trained for 5 bit steps=6"
    assert series_of["vq steps=5 10 bit"] == series_of["vq steps=5 8 bit"] == "vq steps=5"
    assert series_of["two stages steps=5 9 bit"] == "two stages steps=5"
    assert series_of["q2d2-hex range=edge steps=5 8 bit"] == "q2d2-hex range=edge steps=5"
    by_rate = study.check({"name": "x", "quantizers": ["fsq"], "bitrate": [1500, 2000]}, "x")
    assert {run.series for run in runs.expand(by_rate, CORPUS)} == {"fsq"}
    assert {run.warm_start() for run in runs.expand(by_rate, CORPUS)} == {None}


def test_the_series_decides_no_hash() -> None:
    (run,) = runs.expand(study.check({"name": "x", "quantizers": ["fsq"], "bits": 9}, "x"), CORPUS)
    other = dataclasses.replace(run, series="something else")
    assert (other.hash, other.training_hash) == (run.hash, run.training_hash)


def test_references_of_one_codec_are_one_series() -> None:
    values = {"name": "x", "quantizers": ["fsq"], "bits": 9, "references": ["opus:6000", "opus:9000", "pcm"]}
    made = reference_runs.expand(study.check(values, "x"), CORPUS)
    assert [run.series for run in made] == ["opus", "opus", "pcm"]
    two = study.check({**values, "data": ["demo", "folder:/x"]}, "x")
    corpora = {(one.spec, one.sample_rate): CORPUS for one in runs.corpora(two)}
    assert {run.series for run in reference_runs.expand(two, corpora) if run.name == "opus"} == {
        *("opus data=demo", "opus data=folder:/x"),
    }
