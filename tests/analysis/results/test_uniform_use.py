"""Joint use of codes beside what a uniform source would show."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import load
from analysis.figures.code_use import size_figure, sizes
from analysis.results.uniform_use import UNIFORM, with_uniform_use
from analysis.tables.comparison import comparison


def runs(*bits: float, tokens: int = 3000) -> pd.DataFrame:
    frame = pd.DataFrame({"rate/bits_per_frame": bits})
    return frame.assign(**{"usage/joint_used_fraction": 0.5, "usage/tokens": float(tokens)})


@pytest.mark.parametrize("codes", [7, 900, 2**14])
def test_expectation_is_that_of_uniform_draws(codes: int) -> None:
    generator = np.random.default_rng(0)
    drawn = [len(np.unique(generator.integers(codes, size=3000))) / codes for _ in range(50)]
    expected = with_uniform_use(runs(np.log2(codes)))[UNIFORM[0]].item()
    assert expected == pytest.approx(np.mean(drawn), rel=0.01)
    assert with_uniform_use(runs(np.log2(codes)))[UNIFORM[2]].item() <= 1


def test_a_joint_code_of_several_frames() -> None:
    """Streams with strides: 7 bits per frame are 28 in a period of four frames, of which 1000 were seen."""
    strided = runs(7.0).assign(**{"usage/joint_frames": 4.0, "usage/joint_tokens": 1000.0})
    other = pd.concat([strided, runs(7.0)], ignore_index=True)
    shares = with_uniform_use(other)[UNIFORM[0]]
    assert shares[0] == pytest.approx(1000 / 2**28, rel=1e-4)
    assert shares[1] == pytest.approx(1, abs=1e-3)


def test_unknown_stays_unknown() -> None:
    mixed = pd.concat([runs(8.0), runs(float("nan"))], ignore_index=True)
    shares = with_uniform_use(mixed)[UNIFORM[0]]
    assert shares[0] == pytest.approx(1, abs=1e-3)
    assert np.isnan(shares[1])
    older = pd.DataFrame({"rate/bits_per_frame": [8.0]})
    assert with_uniform_use(older) is older


def test_table_and_figure(store: Any) -> None:
    joint = {"usage/joint_used_fraction": 0.25, "usage/joint_perplexity": 1000.0}
    joint["usage/joint_entropy_fraction"] = 0.7
    store.study("joint", [store.Run("fsq", bits=14.0, metrics=joint), store.Run("none", bits=0.0)])
    results = load("joint", store.uri)

    table = comparison(results, ("joint_used_fraction", "joint_uniform_used_fraction"))
    (row,) = [row for section in table.sections for row in section.rows if row.label == "fsq"]
    share = 100 * (1 - np.exp(-9000 / 2**14))  # Poisson
    assert [cell.value for cell in row.cells[:2]] == pytest.approx([25, share], rel=1e-3)

    panels = size_figure(sizes(results.finished)).axes
    assert len(panels) == 2
    assert panels[0].lines[0].get_ydata().item() == pytest.approx(25)
    uniform = panels[0].collections[0]
    assert np.asarray(uniform.get_offsets()).ravel() == pytest.approx([2**14, share], rel=1e-3)


def test_figure_of_a_store_without_joint_use(seven: Any) -> None:
    assert len(size_figure(sizes(load("seven", seven.uri).finished)).axes) == 2
