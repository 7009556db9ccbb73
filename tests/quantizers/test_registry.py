"""Names, options, errors, and quantizers of third parties."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import quantizers
from quantizers import QuantizerError
from quantizers.checks import conformance

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "adding_a_quantizer.md"
MISSION = ("none", "vq", "rvq", "fsq", "q2d2-hex", "q2d2-rect", "q2d2-rhombic")
PYPROJECT = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"
[project]
name = "log-quantizer"
version = "0.1"
[project.entry-points."codecbench.quantizers"]
log = "log_quantizer:LogQuantizer"
broken = "log_quantizer:Missing"
[tool.setuptools]
py-modules = ["log_quantizer"]
"""


def example() -> str:
    """The code block of docs/adding_a_quantizer.md."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(blocks) == 1
    return blocks[0]


def test_names() -> None:
    names = quantizers.available()
    assert names[:7] == MISSION
    assert len(set(names)) == len(names)
    others = "simvq residual-simvq residual-fsq grouped-rvq lfq bsq residual-lfq latent fsp vq-factorized"
    assert {*others.split(), "rvq-factorized", "lattice", "q2d2-hex-released"} <= set(names)


@pytest.mark.parametrize("name", quantizers.available())
def test_defaults_build_and_options_are_listed(name: str) -> None:
    quantizer = quantizers.create(name, dim=32)
    assert quantizer.name == name
    assert quantizer.config == quantizers.validate(name)
    assert quantizers.entry(name).paper or name == "none"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: quantizers.create("q2d2-hx", dim=8), "did you mean 'q2d2-hex'"),
        (lambda: quantizers.create("zzz", dim=8), "known: none, vq"),
        (lambda: quantizers.create("fsq", dim=8, level=[3]), "did you mean 'levels'"),
        (lambda: quantizers.create("none", dim=8, levels=[3]), "its options: none"),
        (lambda: quantizers.create("q2d2-hex", dim=8, grid="rect"), "fixed to 'hex' by the name"),
        (lambda: quantizers.create("fsq", dim=0), "dim must be an integer"),
        (lambda: quantizers.create("fsq", dim=8, levels="ab"), "fsq: levels must be a list of integers"),
        (lambda: quantizers.create("fsq", dim=8, levels=3), "fsq: "),
        (lambda: quantizers.create("vq", dim=8, decay=1.5), "vq: decay must be a number from 0 to 1"),
        (lambda: quantizers.create("grouped-rvq", dim=9), "do not divide"),
        (lambda: quantizers.options("fssq"), "did you mean 'fsq'"),
        (lambda: quantizers.register(quantizers.Quantizer, name="fsq"), "taken"),
    ],
)
def test_errors_name_the_thing_and_the_remedy(call: object, words: str) -> None:
    with pytest.raises(QuantizerError, match=re.escape(words)):
        call()


def test_none_cannot_decode() -> None:
    quantizer = quantizers.create("none", dim=8)
    import torch

    out = quantizer(torch.zeros(2, 3, 8))
    assert (quantizer.streams, quantizer.bits_per_frame, out.codes.shape) == (0, 0.0, (2, 3, 0))
    with pytest.raises(QuantizerError, match="no codes to decode"):
        quantizer.decode(out.codes)


def test_the_documented_example_keeps_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = example()
    assert len([line for line in code.splitlines() if line.strip()]) <= 40
    (tmp_path / "log_quantizer.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    results = list(conformance.check(conformance.builder("log_quantizer:LogQuantizer")))
    assert [result for result in results if result.status == "failed"] == []
    assert len(results) == len(conformance.CHECKS)
    del sys.modules["log_quantizer"]


def test_conformance_finds_what_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = example().replace(
        "straight_through(self._value(codes), low)", "low + (self._value(codes) - low).detach()"
    )
    code = code.replace("features.new_zeros(())", "low.square().mean()").replace(
        "2 * step.long()", "2 * step.long() + 20"
    )
    (tmp_path / "broken_quantizer.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    failed = {
        r.check
        for r in conformance.check(conformance.builder("broken_quantizer:LogQuantizer"))
        if r.status == "failed"
    }
    assert {"shapes", "eval_loss"} <= failed
    assert "pickling" not in failed
    del sys.modules["broken_quantizer"]
    for target, words in (
        ("nowhere:Thing", "cannot be imported"),
        ("math:pi", "not a subclass"),
        ("vqq", "did you mean"),
    ):
        with pytest.raises(QuantizerError, match=words):
            conformance.builder(target)


@pytest.mark.slow
def test_an_installed_package_adds_its_quantizer(tmp_path: Path) -> None:
    package, site = tmp_path / "package", tmp_path / "site"
    package.mkdir()
    (package / "log_quantizer.py").write_text(example())
    (package / "pyproject.toml").write_text(PYPROJECT)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    subprocess.run([*pip, "--target", str(site), str(package)], check=True, capture_output=True, timeout=300)
    program = """
import quantizers, torch
assert "log" in quantizers.available(), quantizers.available()
quantizer = quantizers.create("log", dim=8, steps=4, channels=3)
assert quantizer.codebook_sizes == (8, 8, 8), quantizer.codebook_sizes
assert quantizer(torch.randn(2, 5, 8)).codes.shape == (2, 5, 3)
try:
    quantizers.create("broken", dim=8)
except quantizers.QuantizerError as error:
    print(error)
"""
    environment = {"PYTHONPATH": f"{site}:{ROOT}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "'broken' of log_quantizer:Missing cannot be loaded" in done.stdout


def test_learned_values_count_averaged_codebooks_too() -> None:
    vq = quantizers.create("vq", dim=16, codebook_size=32)
    assert vq.learned_values == 32 * 16
    fsq = quantizers.create("fsq", dim=16, levels=(5, 5))
    assert fsq.learned_values == 16 * 2 + 2 + 2 * 16 + 16
