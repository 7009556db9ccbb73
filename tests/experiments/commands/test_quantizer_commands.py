"""The commands about quantizers."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import quantizers
from experiments.cli import app


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: str) -> str:
    """The message of a mistake, line ends and the frame around it left out."""
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert result.exit_code == 2, result.output
    return " ".join(result.output.replace("│", " ").split())


def test_list_shows_every_name() -> None:
    output = run("list", "quantizers")
    for name in quantizers.available():
        assert f" {name} " in output
    assert "arXiv 2512.01537" in output
    assert "524,288" in output  # a codebook of 1024 vectors of 512, though it is no parameter


def test_rates() -> None:
    output = run("rates", "--bits", "12")
    assert "q2d2-rhombic" in output
    assert "12.0000" in output
    assert "none" not in output.split("Target")[0].split()
    output = run("rates", "fsq", "--bitrate", "1000", "--frame-rate", "75")
    assert "levels=10 10 10 10" in output
    assert "996.6" in output
    assert "residual-simvq" in run("rates", "simvq", "--bits", "19")
    assert "did you mean 'fsq'" in refused("rates", "fssq", "--bits", "12")
    assert "give --bits, or --bitrate with --frame-rate" in refused("rates", "--bitrate", "1000")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--bitrate", "6000", "--frame-rate", "0"], "'--frame-rate': 0: give a number above 0"),
        (["--bitrate", "nan", "--frame-rate", "50"], "'--bitrate': nan: give a number above 0"),
        (["--bitrate", "1e9", "--frame-rate", "1e-3"], "1e+12 bits per frame; give a rate of at most 100000"),
        (["--bits", "1e9"], "'--bits': 1e9: give a number above 0, at most 100000"),
        (["--bits=-3"], "'--bits': -3: give a number above 0"),
        (["--bits", "[/rect]"], "'--bits': '[/rect]': give a number above 0"),
        (["--bits", "12", "--dim", "0"], "'--dim'"),
    ],
)
def test_rates_that_cannot_be(arguments: list[str], words: str) -> None:
    assert words in refused("rates", "fsq", *arguments)


def test_geometry() -> None:
    output = run("geometry", "--samples", "2000")
    assert "196,560" in output
    assert "0.080188" in output
    assert "tanh-gaussian" in output


@pytest.mark.parametrize("arguments", [["--samples", "0"], ["--bits", "0"], ["--bits", "inf"], ["--seed=-1"]])
def test_a_geometry_that_cannot_be_measured(arguments: list[str]) -> None:
    assert f"'{arguments[0].partition('=')[0]}'" in refused("geometry", *arguments)


@pytest.mark.slow
def test_source_coding(tmp_path: Path) -> None:
    figure = tmp_path / "curves.png"
    small = ["--bits", "1,2", "--sources", "gaussian", "--steps", "5", "--workers", "1", "--dim", "4"]
    output = run("source-coding", "fsq", "vq", *small, "--figure", str(figure))
    assert output.count(" gaussian ") == 4
    assert run("source-coding", "fsq", "--bits", "2,2.001", *small[2:]).count(" gaussian ") == 1
    assert figure.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_source_coding_with_options_and_a_weight_of_the_rate() -> None:
    small = ["--bits", "3", "--sources", "gaussian", "--steps", "5", "--workers", "1", "--dim", "2"]
    options = ["--options", "{activation: sigmoid}"]
    points = json.loads(run("source-coding", "fsq", *small, *options, "--format", "json"))["points"]
    assert [point["quantizer"] for point in points] == ["fsq activation=sigmoid"]
    assert points[0]["bits"] == points[0]["nominal"]
    output = run("source-coding", "fsq", "vq", *small, "--rate-weight", "0.01,0.1", "--format", "json")
    said = json.loads(output)
    names = {point["quantizer"]: point for point in said["points"]}
    assert names.keys() == {"fsq rate_weight=0.01", "fsq rate_weight=0.1"}
    assert all(point["bits"] < point["nominal"] == 3.0 for point in names.values())
    assert "vq has no differentiable estimate of its rate" in said["left_out"]["vq"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--options", "[1]"], "--options: give names of quantizers, and a mapping"),
        (["--options", "{a: "], "--options: not valid YAML"),
        (["--options", "{level: 3}"], "fsq has no option 'level'"),
        (["--rate-weight", "0"], "0: give a number above 0"),
        (["--sources", "cauchy"], "unknown source 'cauchy'; known: uniform"),
        (["--sources", ","], "give at least one name"),
        (["--bits", "1,x"], "'x': give a number above 0"),
        (["--bits", "0"], "0: give a number above 0"),
        (["--figure", "curves.txt"], "curves.txt: give a file that ends in .png, .svg or .pdf"),
        (["--figure", "/proc/none/curves.png"], "--figure /proc/none/curves.png: cannot write there"),
        (["--dim", "0"], "'--dim'"),
        (["--steps", "0"], "'--steps'"),
        (["--workers", "0"], "'--workers'"),
    ],
)
def test_source_coding_that_cannot_be(arguments: list[str], words: str) -> None:
    assert words in refused("source-coding", "fsq", *arguments)


def test_check_quantizer() -> None:
    assert "q2d2-rect passes all checks" in run("check-quantizer", "q2d2-rect")
    assert "cannot be imported" in refused("check-quantizer", "nowhere:Thing")


def test_a_quantizer_in_a_module_of_the_working_folder_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_quantizer_module.py").write_text("from quantizers.methods.fsq import FSQ\n")
    monkeypatch.chdir(tmp_path)
    assert "own_quantizer_module:FSQ" in run("check-quantizer", "own_quantizer_module:FSQ")
