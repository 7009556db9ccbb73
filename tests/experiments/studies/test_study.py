from pathlib import Path

import pytest

import quantizers
from experiments.studies import runs, study
from experiments.studies.row_rates import row_rates, unmatched
from experiments.studies.runs import CorpusIdentity
from experiments.studies.study import StudyError

APART = {"paper": {"vq-released"}}  # rows that are not compared with the others, which their pages say
CORPUS = CorpusIdentity(spec="demo", name="demo", content_hash="abc", synthetic=True)


@pytest.mark.parametrize("name", study.available())
def test_every_shipped_study_is_valid_and_rate_matched(name: str) -> None:
    loaded = study.load(name)
    assert loaded.name == name
    assert loaded.question
    apart = {label.partition(" ")[0] for label in unmatched(row_rates(loaded))}
    assert loaded.allow_rate_mismatch or apart <= APART.get(name, set())


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("trian.steps=3", r"quickstart.yaml: unknown key 'trian'; did you mean 'train'\?"),
        ("train.stpes=3", r"unknown key 'train.stpes'; did you mean 'steps'\?"),
        ("train.warm_start.step=3", r"unknown key 'train.warm_start.step'; did you mean 'steps'\?"),
        ("train.steps=-1", r"train.steps: must be at least 0 \(got -1\)"),
        ("quantizers=[q2d2-hexx]", r"quantizers.0: unknown quantizer 'q2d2-hexx'; did you mean 'q2d2-hex'\?"),
        ("quantizers=[{name: fsq, options: {levles: [3]}}]", r"quantizers.0: fsq has no option 'levles'"),
        ("quantizers=[vq, vq]", "two rows have the label 'vq'; give one of them another label"),
        ("backbone=mdct-tinny", r"backbone: unknown backbone 'mdct-tinny'; did you mean 'mdct-tiny'\?"),
        ("backbone.options.widht=3", r"did you mean 'width'\?"),
        ("evaluate.metrics=[pesk]", r"unknown metric 'pesk'"),
        ("seeds=[1, 1]", "a seed is given twice"),
        (
            "contrasts=[{effect: tiling, of: q2d2-hxe, less: fsq}]",
            r"contrasts.0.of: no row or series has the label 'q2d2-hxe'; did you mean 'q2d2-hex'\?",
        ),
        ("contrasts=[{effect: tiling, of: fsq, less: fsq}]", "contrasts.0: 'fsq' is compared with itself"),
        ('contrasts=[{effect: "", of: fsq, less: vq}]', "contrasts.0.effect"),
        ("contrasts=[{effect: tiling, of: fsq}]", "the key 'contrasts.0.less' is missing"),
        (
            "contrasts=[{effect: a, of: fsq, less: vq}, {effect: a, of: fsq, less: vq}]",
            "contrasts.1: 'fsq less vq' is given twice under 'a'",
        ),
        ("train.objective=vocoss", "train.objective: unknown objective 'vocoss'; did you mean 'vocos'"),
        (
            "train.objective.options.mell=1",
            "train.objective: an objective has no weight 'mell'; did you mean 'mel'",
        ),
        ("train.accumulate=3", "batch_size 8 is not a multiple of accumulate 3"),
        ("nonsense", "write it as key=value"),
        ("name.first=x", "name has no keys below it"),
    ],
)
def test_errors_name_the_file_the_key_and_the_remedy(override: str, words: str) -> None:
    with pytest.raises(StudyError, match=words):
        study.load("quickstart", [override])


def test_even_level_on_a_rhombic_grid(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nquantizers: [{name: q2d2-rhombic, options: {levels: [6, 7]}}]\n")
    with pytest.raises(StudyError, match=r"mine.yaml: quantizers.0: .* needs odd levels.*use \(7, 7\)"):
        study.load(str(path))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: [", "not valid YAML"),
        ("- 1", "a study is a mapping"),
        ("name: x", "the key 'quantizers' is missing"),
        ("{name: x, quantizers: [vq], bits: 9, bitrate: 3000}", "bits and bitrate both fix the rate"),
        ("!!python/object/apply:os.system ['true']", "line 1: the tag !!python/object/apply:os.system"),
    ],
)
def test_files_that_are_no_study(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(StudyError, match=words):
        study.load(str(path))


def test_unknown_study_gets_a_suggestion() -> None:
    with pytest.raises(StudyError, match="did you mean 'quickstart'"):
        study.load("quikstart")
    with pytest.raises(StudyError, match="cannot read the study file"):
        study.load("nowhere.yaml")


def test_identity_is_what_decides_the_result() -> None:
    base = runs.expand(study.load("quickstart"), CORPUS)
    assert len({run.hash for run in base}) == len(base)

    def hashes(*overrides: str, corpus: CorpusIdentity = CORPUS) -> list[str]:
        return [run.hash for run in runs.expand(study.load("quickstart", overrides), corpus)]

    mine = [run.hash for run in base]
    assert hashes("train.log_every=3", "train.checkpoint_every=7", "name=other", "question=why") == mine
    moved = CorpusIdentity(spec="folder:/x", name="x", content_hash="abc", synthetic=True)
    assert hashes(corpus=moved) == mine
    for override in ("train.steps=4", "seeds=[3]", "backbone.options.width=64", "train.warm_start=null"):
        assert not set(hashes(override)) & set(mine), override
    assert set(hashes("bits=17")) & set(mine) == {mine[0]}  # `none` spends no bits at either rate
    another = CorpusIdentity(spec="demo", name="demo", content_hash="abd", synthetic=True)
    assert not set(hashes(corpus=another)) & set(mine)


def test_names_of_one_class_are_different_runs_at_equal_options() -> None:
    names = [name for name in quantizers.available() if name.startswith("q2d2-")]
    rows = [{"name": name, "options": {"levels": [9, 9, 7, 7]}} for name in names]
    expanded = runs.expand(study.check({"name": "x", "quantizers": rows}, "x.yaml"), CORPUS)
    assert (
        len({run.hash for run in expanded}) == len({run.training_hash for run in expanded}) == len(names) == 6
    )


def test_a_new_revision_of_a_quantizer_is_another_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def training() -> str:
        rows = [{"name": "fsq", "options": {"levels": [9, 9, 7, 7]}}]
        return runs.expand(study.check({"name": "x", "quantizers": rows}, "x.yaml"), CORPUS)[0].training_hash

    first = training()
    monkeypatch.setattr(quantizers.registry.entry("fsq").cls, "revision", 2)
    assert training() != first


def test_other_metrics_are_another_run_of_the_same_training() -> None:
    first = runs.expand(study.load("quickstart"), CORPUS)
    second = runs.expand(study.load("quickstart", ["evaluate.metrics=[stoi]"]), CORPUS)
    assert [run.training_hash for run in first] == [run.training_hash for run in second]
    assert not {run.hash for run in first} & {run.hash for run in second}


def test_what_is_measured_on_request_is_part_of_the_identity_only_then() -> None:
    def first(**evaluate: object) -> str:
        values = {"name": "x", "quantizers": ["vq"], "bits": 12, "evaluate": evaluate}
        return runs.expand(study.check(values, "x.yaml"), CORPUS)[0].hash

    assert first(bit_exact="fp32") == first()
    assert first(bit_exact="bf16") != first()
    assert first(token_model=0) == first()
    assert first(token_model=300) != first()
    disturbed = {first(robustness={"flips": [5], "shuffles": shuffles}) for shuffles in ([], [50], [100])}
    assert len(disturbed) == 3
    assert first(robustness={"flips": [5], "shuffles": []}) == first(robustness={"flips": [5]})


def test_warm_start_is_shared_by_all_quantizers_of_a_seed() -> None:
    expanded = runs.expand(study.load("quickstart", ["seeds=[0, 1]"]), CORPUS)
    starts = [start for run in expanded if (start := run.warm_start()) is not None]
    assert len(starts) == len(expanded)
    assert len({start.training_hash for start in starts}) == 2
    assert all(start.quantizer == "none" and start.train.steps == 600 for start in starts)


def test_rates_more_than_two_percent_apart_are_named() -> None:
    uneven = study.load("quickstart", ["quantizers=[fsq, q2d2-rect, {name: vq, bits: 18.6}]"])
    assert list(unmatched(row_rates(uneven))) == ["vq"]


def test_objectives_are_written_out_and_bring_their_schedule() -> None:
    plain = study.load("quickstart").train
    assert plain.objective.options["mel"] == 1.0
    assert (plain.optimizer, plain.schedule) == ("muon", "linear")
    released = study.load("quickstart", ["train.objective=wavtokenizer", "train.warmup_steps=7"]).train
    assert released.objective.options["dac"] == 8.0
    assert (released.optimizer, released.schedule, released.gradient_clip) == ("adamw", "cosine", None)
    assert released.warmup_steps == 7
    changed = study.load("quickstart", ["train.objective.name=vocos", "train.objective.options.log_mel=15"])
    assert changed.train.objective.options["log_mel"] == 15.0
    for train in (plain, released, changed.train):
        assert type(train).model_validate(train.model_dump(mode="json")) == train
    hashes = {runs.expand(s, CORPUS)[0].training_hash for s in (study.load("quickstart"), changed)}
    assert len(hashes) == 2


@pytest.mark.parametrize(
    "backbone", ["backbone=mdct-tiny", "backbone={name: soundstream, options: {width: 32}}"]
)
def test_released_weights_are_of_their_backbone(backbone: str) -> None:
    words = r"train.warm_start.weights: soundstream are weights of .*; set backbone: soundstream"
    with pytest.raises(StudyError, match=words):
        study.load("soundstream", [backbone])


def test_contrasts_belong_to_a_study_and_not_to_its_runs(tmp_path: Path) -> None:
    plain, planned = study.load("dimensions", ["contrasts=[]"]), study.load("dimensions")
    assert [one.line for one in planned.contrasts][-1] == "q2d2-hex less fsq"
    assert [run.hash for run in runs.expand(planned, CORPUS)] == [
        run.hash for run in runs.expand(plain, CORPUS)
    ]
    fewer = study.load("dimensions", ["quantizers=[fsq, q2d2-hex]"])
    assert [one.line for one in fewer.contrasts] == ["q2d2-hex less fsq"]
    path = tmp_path / "mine.yaml"
    path.write_text("extends: dimensions\nname: mine\nquantizers: [vq]\n")
    assert study.load(str(path)).contrasts == ()
