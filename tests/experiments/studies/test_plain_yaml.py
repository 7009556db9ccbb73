"""YAML of study files: plain values within bounds."""

import time
from typing import Any

import pytest
import yaml

from experiments.studies import files
from experiments.studies.plain_yaml import MOST_VALUES, PlainYAMLError, read


@pytest.mark.parametrize("name", files.available())
def test_shipped_studies_are_read_as_by_a_plain_loader(name: str) -> None:
    text = (files._shipped() / f"{name}.yaml").read_text(encoding="utf-8")
    assert read(text) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("[1e-3, 1.5e3, 1E+2, .5, 1., -0.25, 1_000.5]", [1e-3, 1500.0, 100.0, 0.5, 1.0, -0.25, 1000.5]),
        ("[0, -4, +3, 1_000, 0x1F, 0b11]", [0, -4, 3, 1000, 31, 3]),
        ("[yes, No, on, OFF, true, False]", [True, False, True, False, True, False]),
        ("[~, null, ]", [None, None]),
        (
            "['012', \"1:30\", '.inf', 2024-01-01, 0o17, 1e, e3, 1_, 0b_, opus:6000, 1.2.3]",
            ["012", "1:30", ".inf", "2024-01-01", "0o17", "1e", "e3", "1_", "0b_", "opus:6000", "1.2.3"],
        ),
        ("base: &b {p: 1, q: 2}\nc: {<<: *b, q: 3}", {"base": {"p": 1, "q": 2}, "c": {"p": 1, "q": 3}}),
        (
            "a: &a {p: 1}\nb: &b {p: 2, r: 3}\nc:\n  <<: [*a, *b]\n  s: 4",
            {"a": {"p": 1}, "b": {"p": 2, "r": 3}, "c": {"p": 1, "r": 3, "s": 4}},
        ),
        ("a: &x [1, 2]\nb: *x", {"a": [1, 2], "b": [1, 2]}),
        ("question: |\n  two\n  lines\n", {"question": "two\nlines\n"}),
        ("label: 六角形 α=0.5", {"label": "六角形 α=0.5"}),
    ],
)
def test_plain_values(text: str, value: Any) -> None:
    assert read(text) == value


def bomb(levels: int) -> str:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    for number in range(levels):
        name, before = chr(ord("b") + number), chr(ord("a") + number)
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train: {steps: 400}\ntrain:\n  seed: 1", "line 2: the key 'train' stands twice, first in line 1"),
        ("quantizers:\n- options:\n    bits: 1\n    bits: 2", "line 4: quantizers.0.options: the key 'bits'"),
        ("train: {steps: 012}", "line 1: train.steps: 012 begins with 0, .* base 8; write 12"),
        ("a: 089.5", "write 89.5, or '089.5' in quotes"),
        ("a: -007", "write -7"),
        ("steps: 1:30", "steps: 1:30 is what YAML reads as a number to base 60; write 90"),
        ("a: -1:30.5", "write -90.5"),
        ("train: {crop_seconds: .inf}", "train.crop_seconds: .inf is no finite number"),
        ("a: [1, .NaN]", r"a.1: .NaN is no finite number"),
        ("a: 1e999", "1e999 is too large"),
        ("a: " + "9" * 5000, r"a: 9+... \(5,000 characters\) is beyond 9223372036854775807"),
        ("a: 9223372036854775808", "is beyond 9223372036854775807"),
        ("quantizers: !!set {none, fsq}", "quantizers: the tag !!set; leave tags out"),
        ("a: !local x", "a: the tag !local"),
        ("a: &a [*a]", r"a.0: \*a stands within itself"),
        ("a: *b", r"\*b has no anchor &b before it"),
        ("on: 3", "the key on is read as true; put it in quotes"),
        ("1: 2", "the key 1 is read as the number 1"),
        ("~: 2", "the key ~ is read as null"),
        ("? [a]\n: 3", "a key is a name"),
        ("a: {<<: 3}", "<< takes a mapping"),
        ("a: 1\n---\nb: 2", "a second document begins"),
        ("name: [", "not valid YAML: line 2, column 1"),
        ("a: \x07", "not valid YAML: unacceptable character"),
        ('a: "\\0"', r"a: holds the control character U\+0000"),
        ('a: "\\ud800"', "not valid YAML|U\\+D800"),
        ("a: \ud800", "not UTF-8"),
        ("a: " + "x" * 20_000, "a text of 20,000 characters"),
        ("x" * 1_000_001, "longer than 1,000,000 bytes"),
        (bomb(8), "more than 50,000 values"),
        ("[" * 5000, "nested deeper than 50|nesting depth"),
        ("\n".join(" " * n + "a:" for n in range(5000))[:900_000], "nested deeper than 50"),
        ("a: " + "{a: " * 60 + "1" + "}" * 60, "nested deeper than 50"),
        (f"[{'1,' * (MOST_VALUES + 1)}]", "more than 50,000 values"),
    ],
)
def test_what_is_not_plain_is_refused_with_its_place(text: str, words: str) -> None:
    started = time.monotonic()
    with pytest.raises(PlainYAMLError, match=words) as raised:
        read(text)
    assert len(str(raised.value)) < 400
    assert time.monotonic() - started < 10  # a bomb takes minutes
