"""Codes become bytes and come back exactly, and the bytes are as many as computed without coding."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.bitstream import payload
from codec.bitstream.counts import Counts, FewCounts
from codec.bitstream.lengths import Seen, Streams, earlier_equal, symbols_before
from codec.bitstream.models import MOST_CODES, TABLE_VALUES, table_classes
from codec.bitstream.payload import MODELS, Settings
from codec.bitstream.range_coder import Decoder, Encoder

SIZES = st.lists(st.sampled_from([1, 2, 3, 9, 64, 1000, 2**14, 2**18, 2**40]), min_size=1, max_size=5)


def skewed(frames: int, sizes: list[int], seed: int, shape: float) -> Any:
    """Factors [frames, factors] whose small values are the frequent ones, and which follow each other."""
    random = np.random.default_rng(seed)
    columns = []
    for size in sizes:
        column = np.minimum(random.pareto(shape, frames) * 3, size - 1).astype(np.int64)
        stays = random.random(frames) < 0.4
        for frame in np.flatnonzero(stays[1:]) + 1:
            column[frame] = column[frame - 1]
        columns.append(column)
    return np.stack(columns, axis=1).reshape(frames, len(sizes))


@settings(deadline=None, max_examples=60)
@given(
    recordings=st.lists(st.integers(0, 120), max_size=4),
    sizes=SIZES,
    seed=st.integers(0, 99),
    shape=st.sampled_from([0.1, 1.0, 4.0]),
)
def test_codes_come_back_exactly_and_are_as_long_as_computed(
    recordings: list[int], sizes: list[int], seed: int, shape: float
) -> None:
    factors = skewed(sum(recordings), sizes, seed, shape)
    for model, (chosen, bits) in payload.shortest(factors, sizes, recordings).items():
        assert chosen.model == model
        written = payload.write(factors, sizes, chosen, recordings)
        assert np.array_equal(payload.read(written, len(factors), sizes, chosen, recordings), factors)
        assert len(written) <= bits / 8 * 1.001 + 2


@settings(deadline=None, max_examples=30)
@given(recordings=st.lists(st.integers(0, 90), max_size=4), seed=st.integers(0, 99))
def test_tokens_of_factors_with_strides_are_written_once(recordings: list[int], seed: int) -> None:
    sizes, strides = [9, 64, 2**40], [4, 3, 2]
    columns = []
    for size, stride in zip(sizes, strides, strict=True):
        random = np.random.default_rng(seed)
        parts = [np.repeat(random.integers(0, size, n // stride + 1), stride)[:n] for n in recordings]
        columns.append(np.concatenate([np.zeros(0, dtype=np.int64), *parts]))
    factors = np.stack(columns, axis=1)
    tokens = [sum(-(-frames // stride) for frames in recordings) for stride in strides]
    nominal = sum(n * math.log2(size) for n, size in zip(tokens, sizes, strict=True))
    lengths = payload.shortest(factors, sizes, recordings, strides)
    assert min(length.bits for length in lengths.values()) <= nominal + 1e-6
    for chosen, bits in lengths.values():
        written = payload.write(factors, sizes, chosen, recordings, strides)
        assert np.array_equal(
            payload.read(written, len(factors), sizes, chosen, recordings, strides), factors
        )
        assert len(written) <= bits / 8 * 1.001 + 2


@settings(deadline=None, max_examples=40)
@given(
    frames=st.integers(0, 60),
    sizes=SIZES,
    increment=st.integers(0, 7),
    strength=st.integers(0, 7),
    data=st.data(),
)
def test_any_codes_by_any_settings(
    frames: int, sizes: list[int], increment: int, strength: int, data: st.DataObject
) -> None:
    """The last and the first code of every size among them."""
    rows = [
        [
            data.draw(st.sampled_from([0, size - 1, size // 2]) | st.integers(0, size - 1), label="code")
            for size in sizes
        ]
        for _ in range(frames)
    ]
    factors = np.array(rows, dtype=np.int64).reshape(frames, len(sizes))
    for model in MODELS:
        chosen = Settings(model, increment, strength)
        written = payload.write(factors, sizes, chosen)
        assert np.array_equal(payload.read(written, frames, sizes, chosen), factors)
        assert Settings.of_byte(model, chosen.byte()) == chosen


@settings(deadline=None, max_examples=60)
@given(
    content=st.binary(max_size=60),
    frames=st.integers(0, 40),
    sizes=SIZES,
    model=st.sampled_from(MODELS),
    byte=st.integers(0, 255),
)
def test_any_bytes_are_codes_within_their_sizes(
    content: bytes, frames: int, sizes: list[int], model: str, byte: int
) -> None:
    """Bytes that no encoder wrote, with a checksum that is right, end in wrong codes, not in an error."""
    codes = payload.read(content, frames, sizes, Settings.of_byte(model, byte))
    assert codes.shape == (frames, len(sizes))
    assert (codes >= 0).all()
    assert (codes < np.array(sizes)).all()


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.integers(1, 2**64).flatmap(
            lambda total: st.tuples(st.just(total), st.integers(0, total - 1)).flatmap(
                lambda pair: st.tuples(st.just(pair[0]), st.just(pair[1]), st.integers(1, pair[0] - pair[1]))
            )
        ),
        max_size=40,
    )
)
def test_any_intervals_come_back(symbols: list[tuple[int, int, int]]) -> None:
    encoder = Encoder()
    for total, start, size in symbols:
        encoder.encode(start, size, total)
    written = encoder.finish()
    decoder = Decoder(written)
    for total, start, size in symbols:
        assert start <= decoder.position(total) < start + size
        decoder.advance(start, size, total)
    ideal = math.fsum(math.log2(total) - math.log2(size) for total, _, size in symbols)
    assert len(written) <= ideal / 8 * 1.001 + 2


def test_a_carry_goes_through_bytes_that_have_left() -> None:
    """An interval around one half leaves 7F FF FF ...: its upper half makes of them 80 00 00 ..."""
    chains = []

    class Watched(Encoder):
        def _carry(self) -> None:
            chains.append(len(self._bytes) - len(self._bytes.rstrip(b"\xff")))
            super()._carry()

    symbols = [(2**63 - 2**20, 2**21, 2**64), *[(127, 2, 256)] * 6, (200, 1, 256), (0, 1, 3)]
    encoder = Watched()
    for start, size, total in symbols:
        encoder.encode(start, size, total)
    decoder = Decoder(encoder.finish())
    for start, size, total in symbols:
        assert start <= decoder.position(total) < start + size
        decoder.advance(start, size, total)
    assert max(chains) >= 5


def test_bytes_are_those_of_version_1() -> None:
    """Files that were written must be read by every later version: these bytes never change."""
    factors = np.array([[0, 5, 700], [1, 5, 700], [0, 4, 31], [0, 5, 700], [1, 5, 2], [0, 5, 700]])
    sizes = (2, 6, 1000)
    written = {
        "static": payload.write(np.tile(factors, (6, 1)), (2, 6, 1000), Settings("static")).hex(),
        "adaptive": payload.write(factors, sizes, Settings("adaptive", 3)).hex(),
        "context": payload.write(factors, sizes, Settings("context", 3, 1)).hex(),
    }
    assert written == {
        "static": "40026047fa490433ef08426f8a818bb226b0e0ba4560e867c42e6a772a4cd2f4e58f46c4cb97953f"
        "5d285cd2e52e200aacf3bd72b5814f2a",
        "adaptive": "799eec81e5d77e4861",
        "context": "799eec7d9801b45cb5",
    }


@pytest.mark.parametrize("sizes", [(9,) * 6, (1024,) * 4, (2,) * 19, (2**18,)])
def test_bytes_are_as_many_as_computed(sizes: tuple[int, ...]) -> None:
    factors = skewed(400, list(sizes), 1, 1.0)
    for chosen, bits in payload.shortest(factors, sizes).values():
        assert abs(len(payload.write(factors, sizes, chosen)) - bits / 8) < 2


def test_what_repeats_costs_less_by_contexts_and_less_by_frequencies_than_nominally() -> None:
    random = np.random.default_rng(0)
    walk = np.cumsum(random.integers(-1, 2, 4000)) % 16
    biased = np.minimum(random.geometric(0.4, 4000) - 1, 15)
    by_walk, by_bias = (
        {model: length.bits / 4000 for model, length in payload.shortest(codes[:, None], (16,)).items()}
        for codes in (walk, biased)
    )
    assert by_walk["context"] == pytest.approx(math.log2(3), abs=0.1)  # a step has three values
    assert by_walk["adaptive"] > 3.9  # all codes are as frequent
    entropy = 2.428  # of the geometric distribution with p 0.4, in bits
    assert by_bias["adaptive"] == pytest.approx(entropy, abs=0.08)
    assert by_bias["static"] == pytest.approx(entropy, abs=0.08)
    assert by_bias["context"] < by_bias["adaptive"] + 0.05


def test_no_model_of_codes_without_structure_is_longer_than_nominal() -> None:
    factors = np.random.default_rng(0).integers(0, 9, (200, 6))
    nominal = 200 * 6 * math.log2(9)
    lengths = payload.shortest(factors, (9,) * 6)
    assert lengths["static"].bits <= nominal + 6
    assert lengths["adaptive"].bits <= nominal
    assert lengths["context"].bits <= nominal * 1.002


def test_a_large_codebook_is_modelled_up_to_its_limit() -> None:
    codes = np.zeros((50, 1), dtype=np.int64)
    assert payload.shortest(codes, (MOST_CODES,))["adaptive"].bits < 50 * 18 / 2
    assert payload.shortest(codes, (MOST_CODES + 1,))["adaptive"].bits > 50 * 18


@settings(deadline=None)
@given(size=st.integers(1, 300), data=st.data())
def test_counts_and_their_sums_are_those_of_a_list(size: int, data: st.DataObject) -> None:
    tree, plain = Counts(size), [1] * size
    few, counted = FewCounts(), [0] * size
    for symbol in data.draw(st.lists(st.integers(0, size - 1), max_size=30)):
        tree.add(symbol, 7)
        plain[symbol] += 7
        few.add(symbol)
        counted[symbol] += 1
    assert tree.total == sum(plain)
    assert few.total == sum(counted)
    for symbol in range(size):
        assert (tree.of(symbol), tree.below(symbol)) == (plain[symbol], sum(plain[:symbol]))
        assert (few.of(symbol), few.below(symbol)) == (counted[symbol], sum(counted[:symbol]))
    position = data.draw(st.integers(0, tree.total - 1))
    symbol = tree.find(position)
    assert tree.below(symbol) <= position < tree.below(symbol) + tree.of(symbol)


def test_what_came_before_is_counted() -> None:
    symbols = np.array([3, 1, 3, 3, 1, 0])
    assert earlier_equal(symbols).tolist() == [0, 0, 1, 2, 1, 0]
    assert symbols_before(symbols, [2, 0, 3, 1]).tolist() == [-1, 3, -1, 3, 3, -1]
    streams = Streams((2, 0, 3, 1), (0, 1, 1, 2))
    assert (streams.count, streams.frames.tolist()) == (3, [2, 3, 1])
    assert streams.streams.tolist() == [0, 0, 1, 1, 1, 2]
    assert streams.place.tolist() == [0, 1, 0, 1, 2, 0]
    plain = Seen(symbols, 4, streams).adaptive(2)
    assert plain == pytest.approx(  # (1 + 2 n) / (4 + 2 N) of each symbol
        [-math.log2(1 / 4 * 1 / 6), -math.log2(1 / 4 * 3 / 6 * 1 / 8), -math.log2(1 / 4)]
    )


@settings(deadline=None, max_examples=30)
@given(recordings=st.lists(st.integers(0, 60), max_size=5), sizes=SIZES, seed=st.integers(0, 99))
def test_recordings_of_their_own_are_as_long_as_alone(
    recordings: list[int], sizes: list[int], seed: int
) -> None:
    factors = skewed(sum(recordings), sizes, seed, 1.0)
    each = payload.shortest_of_each(factors, sizes, recordings)
    parts = np.split(factors, np.cumsum(recordings)[:-1]) if recordings else []
    for model in MODELS:
        alone = [payload.shortest(part, sizes)[model].bits for part in parts]
        assert each[model] == pytest.approx(np.array(alone), rel=1e-9, abs=1e-6)


def test_frequencies_that_are_sent_are_near_the_counts() -> None:
    counts = np.concatenate([np.arange(1, 5000), [10**6, 10**7]])
    sent = np.array(TABLE_VALUES)[table_classes(counts)]
    assert (np.abs(np.log2(sent / counts)) <= math.log2(1.5) / 2 + 1e-9).all()
    assert table_classes(np.array([0, 1, 2, 3])).tolist() == [0, 1, 2, 3]
