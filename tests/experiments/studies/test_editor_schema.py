"""The JSON schema of study files: it takes what the check takes, and refuses what is plainly wrong."""

import json
from functools import cache
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
import yaml

from experiments.studies import editor_schema, files, plain_yaml, schema_file, study
from quantizers.allocation import ALLOCATIONS, CHANNELS

SHIPPED = Path(files.__file__).parent / "shipped"


@cache
def validator() -> jsonschema.Draft7Validator:
    schema = json.loads(schema_file.shipped())
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def mistakes(values: Any) -> list[str]:
    return [f"{error.json_path}: {error.message[:200]}" for error in validator().iter_errors(values)]


def test_options_that_steer_a_choice_are_those_of_the_code() -> None:
    from experiments.studies.editor_schema import _STEERING

    assert get_args(get_args(_STEERING["channels"])[1]) == (*CHANNELS, "released")  # that of Q2D2 alone
    assert get_args(_STEERING["allocation"]) == ALLOCATIONS


def test_the_shipped_schema_is_up_to_date() -> None:
    assert schema_file.shipped() == editor_schema.text(), "run python docs/make_json.py"


@pytest.mark.parametrize("name", files.available())
def test_every_shipped_study_fits(name: str) -> None:
    assert not mistakes(plain_yaml.read((SHIPPED / f"{name}.yaml").read_text(encoding="utf-8")))
    merged, _ = files.read(name)
    assert not mistakes(merged)


def test_a_study_with_every_default_written_out_fits() -> None:
    loaded = study.check({"name": "all", "quantizers": ["fsq"], "search": {}, "bits": 12}, "all.yaml")
    values = loaded.model_dump(mode="json", exclude={"axes", "as_given"})
    assert not mistakes(values)
    assert study.check(values, "all.yaml").train == loaded.train


RIGHT = """
{quantizers: [{name: [fsq, q2d2-hex], options: {channels: [2, 4]}, bits: [12, 14]}]}
{quantizers: [{name: fsq, options: {levels: [[7, 7], [9, 9]]}}], allow_rate_mismatch: true}
{quantizers: [{name: vq, options: {codebook_dim: null, rotation_trick: [true, false]}}], bits: 12}
{quantizers: [fsq], bits: [12, 14], train: {steps: [100, 200], betas: [[0.9, 0.99], [0.8, 0.9]]}}
{quantizers: [fsq], bits: [12, 14], train: {steps: [100, 200]}, zip: [[bits, train.steps]]}
{quantizers: [fsq], bits: 12, backbone: [mdct-tiny, mdct-small], seeds: [0, 1, 2]}
{quantizers: [fsq], bits: 12, backbone: {name: mdct-tiny, options: {width: [16, 32]}}}
{quantizers: [fsq], bits: 12, data: ["demo", "folder:/data"], train: {warm_start: null, steps: 0}}
{quantizers: [fsq], bits: 12, train: {objective: {name: vocos, options: {mel: 2}}, freeze: [encoder]}}
{quantizers: [none, fsq], bits: 5e0, references: [pcm, opus:6000, {name: opus, options: {bitrate: 9000}}]}
{quantizers: [fsq], bits: 12, evaluate: {metrics: [pesq], robustness: {flips: [1, 2.5], metrics: [stoi]}}}
{quantizers: [fsq], bits: 12, search: {space: {levels: [3, 9]}, pruner: null}}
"""


@pytest.mark.parametrize("line", RIGHT.strip().splitlines())
def test_what_the_check_takes_fits(line: str) -> None:
    values = {"name": "own", **plain_yaml.read(line)}
    study.check(values, "own.yaml")
    assert not mistakes(values)


WRONG = """
{quantizers: [fsq], bits: 12, trian: {steps: 3}}
{quantizers: [fsg], bits: 12}
{quantizers: [], bits: 12}
{quantizers: [fsq], bits: "12"}
{quantizers: [fsq], bits: true}
{quantizers: [fsq], bits: []}
{quantizers: [fsq], bitrate: 0}
{quantizers: [fsq], bits: 12, seeds: 0}
{quantizers: [fsq], bits: 12, seeds: [-1]}
{quantizers: [fsq], bits: 12, seeds: [0.5]}
{quantizers: [fsq], bits: 12, train: {steps: -1}}
{quantizers: [fsq], bits: 12, train: {steps: ten}}
{quantizers: [fsq], bits: 12, train: {betas: [0.9]}}
{quantizers: [fsq], bits: 12, train: {betas: [0.9, 1.5]}}
{quantizers: [fsq], bits: 12, train: {optimizer: sgd}}
{quantizers: [fsq], bits: 12, train: {warm_start: {}}}
{quantizers: [fsq], bits: 12, train: {warm_start: {weights: lyra9}}}
{quantizers: [fsq], bits: 12, train: {objective: vocoz}}
{quantizers: [fsq], bits: 12, train: {objective: {options: {mell: 3}}}}
{quantizers: [fsq], bits: 12, train: {objective: {options: false}}}
{quantizers: [fsq], bits: 12, backbone: mdct}
{quantizers: [fsq], bits: 12, backbone: {name: mdct-tiny, options: {strides: [2, 2]}}}
{quantizers: [fsq], bits: 12, data: dema}
{quantizers: [fsq], bits: 12, evaluate: {metrics: [pesk]}}
{quantizers: [fsq], bits: 12, evaluate: {metrics: []}}
{quantizers: [fsq], bits: 12, evaluate: {robustness: {flips: [2, 2]}}}
{quantizers: [fsq], bits: 12, references: [opuss:6000]}
{quantizers: [fsq], bits: 12, search: {objectives: [eval/pesq]}}
{quantizers: [{name: fsq, options: {codebook_size: 16}}], bits: 12}
{quantizers: [{name: [fsq, vq], options: {codebook_size: 16}}], bits: 12}
{quantizers: [{label: x}], bits: 12}
{quantizers: [{name: vq, options: {stages: 1}}], bits: 12}
{quantizers: [fsq], axes: [], bits: 12}
{quantizers: [fsq], bits: 12, extends: [base]}
{bits: 12}
"""


@pytest.mark.parametrize("line", WRONG.strip().splitlines())
def test_what_is_plainly_wrong_does_not_fit(line: str, tmp_path: Path) -> None:
    values = {"name": "own", **plain_yaml.read(line)}
    assert mistakes(values)
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(study.StudyError):
        study.load(str(tmp_path / "own.yaml"))


def test_a_study_without_a_name_or_with_a_wrong_one() -> None:
    assert mistakes({"quantizers": ["fsq"], "bits": 12})
    assert mistakes({"name": "a b", "quantizers": ["fsq"]})
    assert mistakes([])
    assert not mistakes({"name": "own", "extends": "base"})


def test_editors_have_a_description_of_every_key() -> None:
    schema = json.loads(schema_file.shipped())
    for key, value in schema["properties"].items():
        assert value.get("description"), key
    for name in ("Train", "Evaluate", "Search", "SearchSpace", "Robustness"):
        for key, value in schema["$defs"][name]["properties"].items():
            assert value.get("description"), f"{name}.{key}"
