"""Every option of every quantizer is described, from the docstring of its configuration."""

import pytest

import quantizers
from quantizers.option_descriptions import option_descriptions


@pytest.mark.parametrize("name", quantizers.available())
def test_every_option_is_described(name: str) -> None:
    described = option_descriptions(name)
    assert list(described) == list(quantizers.options(name)), "write `option: meaning` in its docstring"
    assert all(text and not text.endswith(".") for text in described.values())


def test_a_description_goes_over_several_lines_and_comes_from_the_nearest_class() -> None:
    assert option_descriptions("q2d2-hex")["spread"] == (
        "factor on the range. Above 1 the outer cells hold more values, below 1 fewer"
    )
    assert option_descriptions("q2d2-hex")["levels"].startswith("points along x and y of the first pair")
    assert option_descriptions("soundstream-rvq")["decay"] == option_descriptions("vq")["decay"]
    assert option_descriptions("lattice")["blocks"].startswith("number of blocks")


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(quantizers.QuantizerError, match="did you mean 'fsq'"):
        option_descriptions("fsqq")
