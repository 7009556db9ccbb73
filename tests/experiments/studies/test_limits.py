"""Study files that would hang, take all memory or mean something else are refused, with what to write."""

import time
from pathlib import Path
from typing import Any

import pytest

import quantizers
from experiments.commands.options import changes_of
from experiments.studies import axes, fields, runs, study
from experiments.studies.files import StudyError
from experiments.studies.runs import CorpusIdentity

CORPUS = CorpusIdentity(spec="demo", name="demo", content_hash="abc", synthetic=True)
MANY = "[" + ", ".join(str(1 + number / 1000) for number in range(3000)) + "]"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.steps=true", r"train.steps: must be a whole number \(got True\)"),
        ("train.steps='5'", "train.steps: must be a whole number, not a text; leave out the quotes"),
        ("train.steps=1.5", r"train.steps: must be a whole number \(got 1.5\)"),
        ("train.steps=1e12", r"train.steps: .* at most 1,000,000,000"),
        ("train.steps=012", "--set train.steps=012: 012 begins with 0"),
        ("train.steps=1:30", "write 90"),
        ("train.batch_size=1e9", "train.batch_size: .* at most 65,536"),
        ("train.crop_seconds=.inf", "--set train.crop_seconds=.inf: .inf is no finite number"),
        ("train.crop_seconds=1e9", "train.crop_seconds: .* at most 600"),
        (
            "train.crop_seconds=1e-6",
            "train.crop_seconds: 1e-06 s are 0 samples at 16000 Hz, .* needs 513; give 0.036",
        ),
        ("train={batch_size: 65536, crop_seconds: 10}", "batch_size x crop_seconds is 655,360 s"),
        ("train.learning_rate=.nan", "no finite number"),
        ("train.learning_rate=1e5", "train.learning_rate: .* at most 1,000"),
        ("train.weight_decay='1e-2'", "train.weight_decay: must be a number, not a text"),
        ("train.betas=[0.9, true]", "train.betas.1: must be a finite number"),
        ("train.compile=1", r"train.compile: must be true or false \(got 1\)"),
        ("train.objective={name: vocos, options: [1]}", "train.objective: options: give weights by name"),
        ("train.objective.options.mel=1e10", "mel must be a finite number from 0 to 1e.09"),
        ("train.objective.options.log_mel_scales=[[1e9, 1, 1]]", "log_mel_scales must be"),
        (
            "train.objective.options.discriminator_width=1000",
            "discriminator_width must be above 0, at most 16",
        ),
        ("bits=true", r"bits: must be a finite number \(got True\)"),
        ("bits=1e9", "bits: .* at most 1,024"),
        ("bitrate=1e15", "bitrate: .* at most 10,000,000"),
        ("seeds=[18446744073709551616]", "18446744073709551616 is beyond 9223372036854775807"),
        ("seeds=[-1]", r"seeds.0: .* at least 0 \(got -1\)$"),
        ("seeds=[true]", "seeds.0: must be a whole number"),
        ("seeds=3", r"seeds: must be a list, such as \[...\] \(got 3\)"),
        ("quantizers=fsq", r"quantizers: must be a list, such as \[...\] \(got 'fsq'\)"),
        ("name='-x'", "name: must begin with a letter or digit"),
        ("name=" + "x" * 101, "name: .* at most 100"),
        ("question=" + "x" * 2001, "question: .* at most 2,000"),
        ("backbone.options.width=1e9", "backbone: width must be a positive integer, not 1000000000.0"),
        ("backbone.options.width=1000000000", "backbone: width must be at most 8,192, not 1,000,000,000"),
        ("backbone.options.blocks=1000000", "backbone: blocks must be at most 256"),
        ("backbone={name: wavtokenizer-small, options: {strides: [1000, 1000, 1000]}}", "at most 8 strides"),
        ("evaluate.metrics=[]", "evaluate.metrics: .* at least one entry"),
        ("evaluate.metrics=[stoi, stoi]", "evaluate.metrics: 'stoi' is given twice"),
        ("evaluate.robustness.flips=[5, 5]", "evaluate.robustness.flips: 5.0 is given twice"),
        ("evaluate.audio_examples=1e9", "evaluate.audio_examples: .* at most 10,000"),
        ("search.seeds=[100000]", "search.seeds.0: .* at most 40,000"),
        ("data=foldr:/x", "data.corpus: is not a corpus; did you mean 'folder'"),
        ("data=folder:/" + "a" * 300, "data.corpus: has a name of more than 255 bytes"),
        ("data=folder:" + "/aa" * 2000, "data.corpus: .* at most 4,000"),
        ("data='webdataset:x-{000000..999999999}.tar'", "names 1,000,000,000 shards, more than 100,000"),
        ("data='webdataset:" + "{a,b}" * 40 + "'", "names 1,099,511,627,776 shards"),
        (f"bits={MANY}", "lists of values make 21,000 rows, more than 10,000; shorten a list"),
        ("seeds=[" + ", ".join(map(str, range(2000))) + "]", "seeds: .* at most 1,000"),
        ("quantizers=[{name: [fsq, [vq]]}]", "quantizers.0: name: write names of quantizers"),
        (
            "quantizers=[{name: fsq, options: {channels: 1000000}}]",
            "fsq: channels must be at most 512, not 1,000,000",
        ),
        ("quantizers=[{name: rvq, options: {stages: 1000000}}]", "rvq: stages must be at most 256"),
        (
            "quantizers=[{name: vq, options: {codebook_size: 1e9}, bits: null}]",
            "both fix the rate|must be at most",
        ),
        ("quantizers=[{name: fsq, bits: 1e9}]", "quantizers.0.bits: .* at most 1,024"),
        ("quantizers=[{name: q2d2-hex, options: {spread: true}}]", "spread must be a number from 0.1 to 10"),
        (
            "quantizers=[{name: vq, options: {rotation_trick: 'no'}}]",
            "rotation_trick must be true or false, not 'no'",
        ),
        (
            "quantizers=[{name: vq, options: {commitment: 1e10}}]",
            "commitment must be a number from 0 to 1e.09",
        ),
        (
            'quantizers=[{name: fsq, label: "a\\nb"}]',
            r"quantizers.0.label: must be printable, and U\+000A is not",
        ),
        ('quantizers=[{name: fsq, label: "\\u202ex"}]', r"U\+202E is not"),
        ("quantizers=[{name: fsq, label: '  '}]", "quantizers.0.label: is blank"),
        (
            "quantizers=[{name: fsq, label: 5}]",
            "quantizers.0.label: must be a text; if it is one, put it in quotes",
        ),
        ("quantizers=[{name: fsq, label: " + "x" * 201 + "}]", "quantizers.0.label: .* at most 200"),
        ("references=['opus:[']", "references.0: opus: bitrate must be an integer"),
        ("references=[{name: resample, options: {rate: 1e9}}]", "resample: rate must be an integer"),
        ("train..steps=1", "write the key as names with dots between"),
        (".".join("a" * 100) + "=1", "write the key as names with dots between"),
    ],
)
def test_values_out_of_bounds_are_refused(override: str, words: str) -> None:
    started = time.monotonic()
    with pytest.raises(StudyError, match=words) as raised:
        study.load("quickstart", [override])
    assert len(str(raised.value)) < 1000
    assert time.monotonic() - started < 20
    source = str(raised.value).split(":")[0]
    assert source == "quickstart.yaml" or source.startswith("--set")


@pytest.mark.parametrize(
    ("name", "options", "bits", "words"),
    [
        ("vq", {"codebook_size": 10**9}, None, "codebook_size must be at most 1,048,576, not 1,000,000,000"),
        ("vq", {"heads": 1}, 60.0, "codebook_size must be at most 1,048,576"),
        ("rvq", {"stages": 1}, 1024.0, "bits are too many for these options|must be at most"),
        (
            "rvq",
            {"stages": 256, "codebook_size": 2**20},
            None,
            "are too large, at most 268,435,456 are possible",
        ),
        ("fsq", {"levels": [2] * 513}, None, "levels has 513 entries; give at most 512"),
        ("fsq", {"levels": 7}, None, r"levels must be a list of integers, such as \[7, 7\], not 7"),
        ("fsq", {"channels": 1}, 30.0, "30 bits are too many for 1 channel"),
        ("q2d2-hex", {"channels": 2}, 1000.0, "1000 bits are too many for 2 channel"),
        ("lattice", {"lattice": "Leech", "blocks": 500}, 500.0, "channels must be at most 512, not 12,000"),
        ("latent", {"levels": [10_000]}, None, "at most 4,096"),
        ("residual-fsq", {"levels": [2] * 24, "stages": 100}, None, "use fewer stages"),
        ("grouped-rvq", {"groups": 256, "stages": 256}, None, "make 65,536 token streams; at most 512"),
        ("lfq", {"group_bits": 40}, None, "group_bits must be at most 16"),
        ("fsp", {"quantize_rate": float("nan")}, None, "quantize_rate must be a number from 0 to 1"),
        ("simvq", {"weight": float("inf")}, None, "weight must be a number from 0 to 1e.09"),
    ],
)
def test_options_of_quantizers_are_bounded(
    name: str, options: dict[str, Any], bits: float | None, words: str
) -> None:
    started = time.monotonic()
    with pytest.raises(quantizers.QuantizerError, match=f"{name}: .*{words}"):
        quantizers.create(name, dim=64, bits=bits, **options)
    assert time.monotonic() - started < 20


def test_numbers_are_numbers_wherever_they_stand() -> None:
    loaded = study.load(
        "quickstart",
        [
            "train.learning_rate=1e-3",
            "train.steps=1e3",
            "quantizers=[{name: vq, options: {commitment: 1e-2}}]",
            "train.objective.options.mel=1e1",
        ],
    )
    assert (loaded.train.learning_rate, loaded.train.steps) == (1e-3, 1000)
    assert loaded.quantizers[0].options == {"commitment": 1e-2}
    assert loaded.train.objective.options["mel"] == 10.0


def test_labels_of_all_alphabets_are_welcome() -> None:
    labels = ["六角形", "α=0.5", "hex 🙂", "עברית", "क्ष", "‌نمونه‌", "a b", "fsq [v2]"]
    rows = [{"name": "fsq", "label": label, "options": {"levels": [3 + n]}} for n, label in enumerate(labels)]
    loaded = study.check({"name": "x", "quantizers": rows}, "x")
    assert [choice.row for choice in loaded.quantizers] == labels


def test_a_label_that_an_axis_makes_too_long_is_shortened_and_stays_apart() -> None:
    levels = [[3] * 300, [3] * 299 + [4]]
    loaded = study.check({"name": "x", "quantizers": [{"name": "fsq", "options": {"levels": levels}}]}, "x")
    labels = [choice.row for choice in loaded.quantizers]
    assert len(set(labels)) == 2
    assert all(len(label) <= fields.MOST_LABEL for label in labels)
    assert all(label.startswith("fsq levels=3,3,3") for label in labels)


@pytest.mark.parametrize(
    ("pattern", "number"),
    [
        ("a.tar", 1),
        ("{a,b}.tar", 2),
        ("x-{000..099}-{0..1}.tar", 200),
        ("{a..e}.tar", 52),  # at least as many as there are
        ("{a,{b,c}}.tar", 4),
        ("{0..}", 52),
    ],
)
def test_shards_are_counted_without_being_listed(pattern: str, number: int) -> None:
    from experiments.studies.sections import _expansions

    assert _expansions(pattern) == number


def test_files_that_cannot_be_read_are_one_message(tmp_path: Path) -> None:
    long = tmp_path / "long.yaml"
    long.write_text("# " + "x" * 1_000_001)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("name: größe".encode("latin-1"))
    folder = tmp_path / "folder.yaml"
    folder.mkdir()
    for path, words in (
        (long, "longer than 1,000,000 bytes"),
        (latin, "not UTF-8 text"),
        (folder, "it is not a file"),
        (Path("/dev/zero.yaml"), "No such file"),
        (tmp_path / ("x" * 300 + ".yaml"), "File name too long"),
        (tmp_path / "a\0b.yaml", "null"),
    ):
        with pytest.raises(StudyError, match=f"cannot read the study file .*{words}"):
            study.load(str(path))
    with pytest.raises(StudyError, match=r"no study 'q{60}\.\.\.'"):
        study.load("q" * 5000)
    bom = tmp_path / "bom.yaml"
    bom.write_bytes(b"\xef\xbb\xbfname: bom\nquantizers: [fsq]\nbits: 9\n")
    assert study.load(str(bom)).name == "bom"


@pytest.mark.parametrize("corpus", ["demo", "folder:/a b: c #1", "folder:/{x}", "folder:/'\"", "folder:/🙂"])
def test_a_corpus_on_the_command_line_is_taken_as_it_is(corpus: str) -> None:
    assert study.load("quickstart", changes_of(None, corpus)).data.corpus == corpus


def test_a_chain_of_files_ends(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"s{number}.yaml").write_text(f"extends: s{number + 1}.yaml\nname: s{number}\n")
    with pytest.raises(StudyError, match="more than 20 files extend each other"):
        study.load(str(tmp_path / "s0.yaml"))


def test_problems_of_a_long_list_are_told_in_part() -> None:
    with pytest.raises(StudyError) as raised:
        study.check({"name": "x", "quantizers": ["fsq"], "seeds": ["a"] * 500}, "x.yaml")
    lines = str(raised.value).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "x.yaml: 480 more problems"


def test_a_configuration_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []
    validate = quantizers.validate

    def counted(name: str, *arguments: Any) -> Any:
        checked.append(name)
        return validate(name, *arguments)

    monkeypatch.setattr(quantizers, "validate", counted)
    rows = [{"name": "q2d2-rect", "options": {"spread": 1.2345}}]
    loaded = study.check({"name": "x", "quantizers": rows, "bits": [9, 11], "seeds": [0, 1]}, "x")
    made = runs.expand(loaded, CORPUS)
    assert len(made) == 4
    codec = made[0].codec()
    assert checked == ["q2d2-rect"] * 2
    assert codec.quantizer.config == made[0].quantizer_config
    assert made[0].quantizer_options["levels"] == list(codec.quantizer.config.levels)


def test_rows_are_counted_before_they_are_built() -> None:
    assert axes.MOST_ROWS == 10_000
    entry = {"name": "fsq", "options": {"range": ["cell", "edge"], "levels": [[3 + n] for n in range(6000)]}}
    started = time.monotonic()
    with pytest.raises(StudyError, match=r"x.yaml: quantizers.0: lists of values make 12,000 rows"):
        study.check({"name": "x", "quantizers": [entry]}, "x.yaml")
    assert time.monotonic() - started < 5
