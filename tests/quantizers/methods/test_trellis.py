"""Trellis-coded quantization: the code against Ungerboeck's, the search against all paths, gains against the
published ones, and the quantizer against all of its codes."""

import heapq
import itertools
import math

import pytest
import torch

import quantizers
from quantizers import QuantizerError
from quantizers.checks import source_coding as known
from quantizers.checks import sources
from quantizers.geometry import trellises
from quantizers.geometry.figures_of_merit import EXACT, TRELLIS, measure_trellis
from quantizers.geometry.trellises import STATES, Trellis

# Squared free distances of Ungerboeck's table, in steps: parallel branches are 16 apart.
FREE = {4: 9, 8: 10, 16: 11, 32: 13, 64: 14, 128: 16, 256: 16}
PUBLISHED = {4: 0.99, 8: 1.09, 256: 1.33}  # granular gains, dB: Marcellin and Fischer 1990


@pytest.mark.parametrize("states", STATES)
def test_free_distance_is_ungerboecks(states: int) -> None:
    """Labels that differ by 1 or 3 are one step apart, by 2 two steps; the code is linear."""
    labels, weight = Trellis(states).labels.tolist(), (0, 1, 4, 1)
    queue, done = [(weight[labels[1]], 1)], set()
    while queue[0][1]:
        distance, state = heapq.heappop(queue)
        if state not in done:
            done.add(state)
            for register in (2 * state, 2 * state + 1):
                heapq.heappush(queue, (distance + weight[labels[register]], register % states))
    assert min(queue[0][0], 16) == FREE[states]


@pytest.mark.parametrize("states", STATES)
def test_states_offer_every_other_subset(states: int) -> None:
    """Of the branches out of a state, and of those into one, the labels are 0 and 2, or 1 and 3."""
    labels = Trellis(states).labels
    out, into = labels.view(states, 2), labels.view(2, states).T
    for pair in (out, into):
        assert ((pair[:, 0] - pair[:, 1]).abs() == 2).all()


@pytest.mark.parametrize("states", STATES)
def test_first_values_of_a_path(states: int) -> None:
    trellis = Trellis(states)
    labels = trellis.subsets(torch.tensor(list(itertools.product((0, 1), repeat=5))))
    assert (labels[:, : trellis.even] % 2 == 0).all()
    assert (labels[:, trellis.even] % 2).any()
    # A channel that has half of its codebook has it centred.
    quantizer = quantizers.create("trellis", dim=4, levels=(4,) * 4, states=states)
    values = quantizer._value(torch.cartesian_prod(*[torch.arange(4)] * 4).unsqueeze(0))[0]
    for channel in range(4):
        points = values[:, channel].unique()
        assert len(points) == (4 if channel < trellis.even else 8)
        assert math.isclose(points.mean().item(), 0, abs_tol=1e-6)


@pytest.mark.parametrize("states", [4, 8, 256])
def test_labels_are_those_of_a_walk(states: int) -> None:
    trellis = Trellis(states)
    bits = torch.randint(2, (3, 40), generator=torch.Generator().manual_seed(0))
    state, walked = torch.zeros(3, dtype=torch.int64), []
    for bit in bits.unbind(1):
        register = 2 * state + bit
        walked.append(trellis.labels[register])
        state = register % states
    assert torch.equal(trellis.subsets(bits), torch.stack(walked, 1))


@pytest.mark.parametrize(("states", "steps"), [(4, 10), (8, 10), (16, 3), (64, 6), (256, 10), (4, 1)])
def test_search_against_all_paths(states: int, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    trellis = Trellis(states)
    costs = torch.rand(steps, 4, 50, generator=torch.Generator().manual_seed(0))
    paths = torch.tensor(list(itertools.product((0, 1), repeat=steps)))
    labels = trellis.subsets(paths)
    every = sum(costs[step, labels[:, step]] for step in range(steps))  # [paths, rows]
    bits = trellis.search(costs)
    found = costs.gather(1, trellis.subsets(bits.T).T.unsqueeze(1)).sum((0, 1))
    assert torch.allclose(found, every.amin(0))
    monkeypatch.setattr(trellises, "_MEMORY", 20_000)  # rows are searched in parts
    assert torch.equal(trellis.search(costs), bits)


@pytest.mark.parametrize("states", STATES)
def test_granular_gain(states: int) -> None:
    found = measure_trellis(states, values=120_000)
    assert found.error < 0.02
    assert abs(found.second_moment - TRELLIS[states]) < 4 * found.error / 4.34 * found.second_moment
    gain = 10 * math.log10(EXACT["Z"] / TRELLIS[states])
    assert abs(gain - PUBLISHED.get(states, gain)) < 0.01
    assert gain < 10 * math.log10(2 * math.pi * math.e / 12)  # 1.53 dB, a sphere's
    if states >= 8:
        assert TRELLIS[states] < EXACT["Leech"]  # "superior to the best lattices in dimensions 24 or less"


@pytest.mark.parametrize("states", [4, 8, 256])
def test_a_frame_gets_the_nearest_of_all_its_codes(states: int) -> None:
    quantizer = quantizers.create("trellis", dim=8, levels=(4, 2, 6, 4), states=states).eval()
    every = torch.tensor(list(itertools.product(range(4), range(2), range(6), range(4))))
    points = quantizer._value(every.unsqueeze(0))[0] * quantizer.scale
    assert len(points.unique(dim=0)) == len(every)
    coordinates = (
        1.2 * quantizer.scale * (2 * torch.rand(1, 500, 4, generator=torch.Generator().manual_seed(0)) - 1)
    )
    found = quantizer._encode(coordinates)
    assert torch.allclose(
        (quantizer._value(found) * quantizer.scale - coordinates).norm(dim=-1),
        torch.cdist(coordinates[0], points).amin(1).unsqueeze(0),
        atol=1e-4,
    )
    assert torch.equal(quantizer._encode(points.unsqueeze(0))[0], every)


@pytest.mark.parametrize("over", ["channels", "time"])
def test_codes_decode_alone_and_errors_end(over: str) -> None:
    quantizer = quantizers.create("trellis", dim=16, levels=(8,) * 12, states=8, over=over).eval()
    out = quantizer(torch.randn(3, 40, 16, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(quantizer.decode(out.codes), out.features)
    factors = quantizer.factors(out.codes)
    values = quantizer._value(factors)
    factors[1, 20, 4] ^= 1  # one bit of one path
    clip, frame, channel = (quantizer._value(factors) != values).nonzero().unbind(1)
    assert set(clip.tolist()) == {1}
    if over == "channels":
        assert set(frame.tolist()) == {20}
        assert min(channel.tolist()) == 4
        assert max(channel.tolist()) <= 4 + 3
        assert torch.allclose(quantizer.decode(out.codes[:, 7:8]), out.features[:, 7:8], atol=1e-6)
    else:
        assert set(channel.tolist()) == {4}
        assert min(frame.tolist()) == 20
        assert max(frame.tolist()) <= 20 + 3


def test_paths_over_time_do_better_than_over_channels() -> None:
    points = 2 * torch.rand(8, 600, 6, generator=torch.Generator().manual_seed(0)) - 1
    errors = {}
    for states, over in ((4, "channels"), (256, "channels"), (4, "time"), (256, "time")):
        quantizer = quantizers.create("trellis", dim=8, levels=(16,) * 6, states=states, over=over)
        value = quantizer._value(quantizer._encode(points * quantizer.scale))
        errors[states, over] = 10 * math.log10(1 / 3 / 16**2 / (value - points).square().mean())
    for states in (4, 256):
        assert 0.15 < errors[states, "channels"] < 0.4  # six values are too few for more states
    assert 0.8 < errors[4, "time"] < 0.95 < 1.1 < errors[256, "time"] < 1.33


def test_bits_and_levels() -> None:
    for bits in (9.0, 12.0, 16.0, 19.0, 24.0, 40.0):
        quantizer = quantizers.create("trellis", dim=32, bits=bits)
        levels = quantizer.config.levels
        assert all(level % 2 == 0 for level in levels)
        assert quantizer.bits_per_frame == math.log2(math.prod(levels))
        assert abs(quantizer.bits_per_frame / bits - 1) < 0.006
    assert len(quantizers.create("trellis", dim=32, bits=24.0, channels=24).config.levels) == 24


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"levels": (8, 7)}, "7 is not: use 8"),
        ({"levels": ()}, "at least one channel"),
        ({"states": 6}, "states must be one of 4, 8, 16"),
        ({"over": "frames"}, "over must be one of channels, time"),
        ({"spread": 0}, "spread must be"),
        ({"levels": (8, 8), "bits": 6.0}, "both fix the rate"),
    ],
)
def test_refusals(options: dict[str, object], words: str) -> None:
    with pytest.raises(QuantizerError, match=words):
        quantizers.create("trellis", dim=16, **options)


def test_a_gaussian_source() -> None:
    """Trained linear maps around fixed levels: on the way between the scalar quantizer and the bound."""
    options = {"dim": 24, "steps": 150}
    (scalar,), _ = known.run("fsq", "gaussian", [2.0], options={"range": "cell"}, **options)
    (frames,), _ = known.run("trellis", "gaussian", [2.0], **options)
    (time,), _ = known.run("trellis", "gaussian", [2.0], dim=4, steps=80, options={"over": "time"})
    assert scalar.snr + 0.3 < frames.snr < frames.shannon - 1
    assert scalar.snr + 0.3 < time.snr < time.shannon - 1
    gain = 10 * math.log10(EXACT["Z"] / TRELLIS[8])
    assert math.isclose(frames.own_high_rate - frames.high_rate, gain)
    assert math.isclose(scalar.own_high_rate, scalar.high_rate)


@pytest.mark.parametrize(("bits", "scalar"), [(1, 4.40), (2, 9.30)])
def test_levels_fitted_to_a_gaussian(bits: int, scalar: float) -> None:
    """As in the paper: levels are means of what chose them (Lloyd). `scalar`: the best without a trellis
    (Max 1960)."""
    trellis, size = Trellis(8), 2 ** (bits + 1)
    train, test = torch.randn(2, 500, 60, generator=torch.Generator().manual_seed(0)).unbind(0)
    levels = 1.2 * torch.special.ndtri((torch.arange(size) + 0.5) / size)

    def code(values: torch.Tensor) -> tuple[torch.Tensor, float]:
        away = (values.unsqueeze(1) - levels.view(-1, 1)).square().unflatten(1, (-1, 4))
        costs, nearest = away.min(1)
        subset = trellis.subsets(trellis.search(costs).mT).mT.unsqueeze(1)
        chosen = 4 * nearest.gather(1, subset) + subset
        return chosen.flatten(), costs.gather(1, subset).mean().item()

    for _ in range(15):
        chosen, _ = code(train)
        total = torch.zeros(size).index_add_(0, chosen, train.flatten())
        levels = total / torch.bincount(chosen, minlength=size).clamp_min(1)
    snr = -10 * math.log10(code(test)[1])
    assert scalar + 0.7 < snr < sources.shannon_snr("gaussian", bits, 8) - 0.6
