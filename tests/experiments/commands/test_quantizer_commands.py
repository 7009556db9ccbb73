"""The commands about quantizers, through a command line of their own."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import quantizers
from experiments.commands import quantizers as commands

app = typer.Typer()
commands.register(app)
app.command("list-quantizers")(commands.list_quantizers)


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_list_shows_every_name() -> None:
    output = run("list-quantizers")
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
    with pytest.raises(quantizers.QuantizerError, match="did you mean 'fsq'"):
        run("rates", "fssq", "--bits", "12")
    assert CliRunner().invoke(app, ["rates", "--bitrate", "1000"]).exit_code == 2


def test_geometry() -> None:
    output = run("geometry", "--samples", "2000")
    assert "196,560" in output
    assert "0.080188" in output
    assert "tanh-gaussian" in output


@pytest.mark.slow
def test_source_coding(tmp_path: Path) -> None:
    figure = tmp_path / "curves.png"
    small = ["--bits", "1,2", "--sources", "gaussian", "--steps", "5", "--workers", "1", "--dim", "4"]
    output = run("source-coding", "fsq", "vq", *small, "--figure", str(figure))
    assert output.count(" gaussian ") == 4
    assert run("source-coding", "fsq", "--bits", "2,2.001", *small[2:]).count(" gaussian ") == 1
    assert figure.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(quantizers.QuantizerError, match="unknown source"):
        run("source-coding", "fsq", "--sources", "cauchy")


def test_check_quantizer() -> None:
    assert "q2d2-rect keeps the contract" in run("check-quantizer", "q2d2-rect")
    with pytest.raises(quantizers.QuantizerError, match="cannot be imported"):
        run("check-quantizer", "nowhere:Thing")
