"""What every quantizer must keep, as checks that run on any of them: the registered ones in our tests, a
third party's by `codecbench check-quantizer module:Class`."""

from __future__ import annotations

import copy
import importlib
import io
import math
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch

from quantizers import registry
from quantizers.checks.assertions import DIM, Build, Skip, random_features, refused, same, within
from quantizers.checks.starts import start, start_anywhere, start_can_be_trained, start_refuses
from quantizers.contract import Quantizer
from quantizers.option_checks import QuantizerError

BITS = 10.0


class Result(NamedTuple):
    """Outcome of one check: `passed`, `failed` or `skipped`, with the reason."""

    check: str
    status: str
    reason: str


def builder(target: str, dim: int = DIM) -> Build:
    """How to build the quantizer `target`: a registered name, or `module:Class`.

    Registered ones are built at 10 bits per frame where they choose their configuration, else with default
    options. Raises QuantizerError if there is no such thing.
    """
    if ":" not in target:
        found = registry.entry(target)
        try:
            registry.validate(target, bits=BITS)
        except QuantizerError:
            return lambda: registry.create(found.name, dim=dim)
        return lambda: registry.create(found.name, dim=dim, bits=BITS)
    module_name, _, class_name = target.partition(":")
    try:
        cls = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise QuantizerError(
            f"{target} cannot be imported: {error}; give a registered name or module:Class"
        ) from None
    if not (isinstance(cls, type) and issubclass(cls, Quantizer)):
        raise QuantizerError(f"{target} is not a subclass of quantizers.Quantizer")
    return lambda: cls(dim, cls.config_class())


def check(build: Build) -> Iterator[Result]:
    """Run every check on quantizers that `build` makes."""
    for name, function in CHECKS.items():
        try:
            function(build)
        except Skip as skip:
            yield Result(name, "skipped", str(skip))
        except Exception as error:  # whatever a third party's code does, the others still run
            yield Result(
                name, "failed", f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            )
        else:
            yield Result(name, "passed", "")


def shapes(build: Build) -> None:
    """Features [batch, frames, dim] float32, codes int64 within sizes, a scalar loss; factors within their
    sizes."""
    quantizer = _started(build)
    for training in (True, False):
        quantizer.train(training)
        features = random_features()
        out = quantizer(features)
        assert out.features.shape == features.shape, f"features are {list(out.features.shape)}"
        assert out.features.dtype == torch.float32, f"features are {out.features.dtype}"
        assert out.codes.shape == (*features.shape[:2], quantizer.streams), (
            f"codes are {list(out.codes.shape)}"
        )
        assert out.codes.dtype == torch.int64, f"codes are {out.codes.dtype}"
        assert out.loss.shape == (), "loss is not a scalar"
        assert torch.isfinite(out.loss), "loss is not finite"
        within(out.codes, quantizer.codebook_sizes, "codes")
        within(quantizer.factors(out.codes), quantizer.factor_sizes, "factors")
        for name, value in out.diagnostics.items():
            assert not value.requires_grad, f"diagnostics[{name!r}] is not detached"


def bits(build: Build) -> None:
    """Declared bits are those of the sizes, and the factors are the whole code."""
    quantizer = _started(build)
    strides = quantizer.stream_strides
    assert len(strides) == quantizer.streams, f"{len(strides)} strides for {quantizer.streams} streams"
    sizes = zip(quantizer.codebook_sizes, strides, strict=True)
    expected = math.fsum(math.log2(size) / stride for size, stride in sizes)
    assert quantizer.bits_per_frame == expected, (
        f"bits_per_frame is {quantizer.bits_per_frame}, not {expected}"
    )
    factors = math.prod(quantizer.factor_sizes)
    assert factors == math.prod(quantizer.codebook_sizes), f"factors have {factors} codes in all"
    per_frame = zip(quantizer.factor_sizes, quantizer.factor_strides, strict=True)
    coded = math.fsum(math.log2(size) / stride for size, stride in per_frame)
    assert math.isclose(coded, expected), f"factors have {coded} bits per frame, not {expected}"


def round_trip(build: Build) -> None:
    """In eval mode, decoding the codes gives exactly the quantized features; factors give the codes back."""
    quantizer = _started(build).eval()
    if not quantizer.streams:
        raise Skip("it has no codes")
    out = quantizer(random_features(scale=3.0))
    difference = (quantizer.decode(out.codes) - out.features).abs().max().item()
    assert difference == 0, f"decoded features differ by {difference:.3g}"
    again = quantizer.from_factors(quantizer.factors(out.codes))
    assert torch.equal(again, out.codes), "from_factors(factors(codes)) are other codes"


def strides(build: Build) -> None:
    """A token fills its block of frames, the first of which is all that is decoded, whatever the length."""
    quantizer = _started(build).eval()
    if set(quantizer.stream_strides) <= {1}:
        raise Skip("each of its streams has a token per frame")
    for frames in (1, 2 * max(quantizer.stream_strides), 3 * max(quantizer.stream_strides) - 1):
        features = random_features(scale=3.0)
        features = torch.cat([features] * (1 + frames // features.shape[1]), 1)[:, :frames]
        out = quantizer(features)
        others = torch.zeros_like(out.codes)
        for stream, stride in enumerate(quantizer.stream_strides):
            tokens = out.codes[:, ::stride, stream]
            repeated = tokens.repeat_interleave(stride, 1)[:, :frames]
            assert torch.equal(repeated, out.codes[..., stream]), f"codes of stream {stream} are no blocks"
            others[:, ::stride, stream] = tokens
        assert torch.equal(quantizer.decode(others), out.features), "codes that are no tokens are decoded"


def encode(build: Build) -> None:
    """`encode` gives the codes of eval mode and changes no state, in training mode either."""
    quantizer = _started(build)
    features = random_features()
    codes = quantizer.eval()(features).codes
    quantizer.train()
    before = copy.deepcopy(quantizer.state_dict())
    assert torch.equal(quantizer.encode(features), codes), "encode in training mode gives other codes"
    assert quantizer.training, "encode left training mode"
    same(before, quantizer.state_dict(), "encode changed")


def fresh(build: Build) -> None:
    """Before any training, eval mode changes no state: what is coded first does not start a codebook."""
    quantizer = build().eval()
    before = copy.deepcopy(quantizer.state_dict())
    codes = quantizer(random_features()).codes
    assert torch.equal(quantizer.encode(random_features()), codes), "encode gives other codes than forward"
    if quantizer.streams:
        quantizer.decode(codes)
    same(before, quantizer.state_dict(), "eval mode changed")


def gradient(build: Build) -> None:
    """Gradient reaches the input; it is that of `surrogate`, where that is stated."""
    quantizer = _started(build)
    features = random_features().requires_grad_()
    out = quantizer(features)
    direction = torch.cos(torch.arange(out.features.numel())).view_as(out.features)
    (found,) = torch.autograd.grad(out.features, features, direction)
    assert torch.isfinite(found).all(), "the gradient is not finite"
    assert found.abs().max() > 0, "no gradient reaches the input"
    smooth = quantizer.surrogate(features)
    if smooth is None:
        return
    (expected,) = torch.autograd.grad(smooth, features, direction)
    difference = (found - expected).abs().max().item()
    assert difference <= 1e-5 * max(1.0, expected.abs().max().item()), (
        f"it differs from surrogate's by {difference:.3g}"
    )


def eval_loss(build: Build) -> None:
    """The auxiliary loss is zero in eval mode, and eval changes no state."""
    quantizer = _started(build).eval()
    before = copy.deepcopy(quantizer.state_dict())
    assert quantizer(random_features()).loss.item() == 0, "the loss is not zero in eval mode"
    same(before, quantizer.state_dict(), "eval changed")


def state_dict(build: Build) -> None:
    """A state dict carries all that training changed."""
    quantizer = _started(build)
    stream = io.BytesIO()
    torch.save(quantizer.state_dict(), stream)
    stream.seek(0)
    other = build()
    other.load_state_dict(torch.load(stream))
    features = random_features()
    first, second = quantizer.eval()(features), other.eval()(features)
    assert torch.equal(first.features, second.features), "features differ after loading the state dict"
    assert torch.equal(first.codes, second.codes), "codes differ after loading the state dict"


def autocast(build: Build) -> None:
    """Codes do not change under bfloat16 autocast, and bfloat16 features are accepted."""
    quantizer = _started(build).eval()
    features = random_features()
    expected = quantizer(features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = quantizer(features)
    assert torch.equal(found.codes, expected.codes), "codes change under autocast"
    assert found.features.dtype == torch.float32, "features are not float32 under autocast"
    low = quantizer(features.bfloat16())
    assert torch.equal(low.codes, quantizer(features.bfloat16().float()).codes), (
        "bfloat16 features get other codes"
    )


def batch_invariance(build: Build) -> None:
    """A clip gets the same codes alone and in a batch."""
    quantizer = _started(build).eval()
    features = random_features()
    together = quantizer(features).codes
    apart = torch.cat([quantizer(clip.unsqueeze(0)).codes for clip in features])
    share = (together != apart).float().mean().item() if together.numel() else 0.0
    assert share == 0, f"{share:.2%} of the codes depend on the batch"


def pieces(build: Build) -> None:
    """Where it says so, a clip gets the same codes and features in pieces of whole periods of its strides."""
    quantizer = _started(build).eval()
    if not quantizer.in_pieces:
        raise Skip("it says that frames depend on each other")
    period = math.lcm(*quantizer.stream_strides)
    features = torch.cat([random_features()] * (2 * period), 1)
    frames = 3 * period
    whole = quantizer(features)
    parts = [quantizer(part) for part in features.split(frames, 1)]
    assert torch.equal(torch.cat([part.codes for part in parts], 1), whole.codes), "pieces get other codes"
    same = torch.equal(torch.cat([part.features for part in parts], 1), whole.features)
    assert same, "pieces get other features"


def determinism(build: Build) -> None:
    """Two trainings from one seed are the same bit for bit."""
    first, second = _started(build), _started(build)
    same(first.state_dict(), second.state_dict(), "training from one seed gives another")


def resume(build: Build) -> None:
    """A training stopped and restored (state dict, optimizer, global generator) goes on bit for bit."""
    whole = _train(build(), 6, seed=1)
    half = _train(build(), 3, seed=1)
    restored = build()
    restored.load_state_dict(half.state_dict())
    _train(half, 3, seed=2)
    _train(restored, 3, seed=2)
    same(half.state_dict(), restored.state_dict(), "a restored training gives another")
    assert whole.state_dict().keys() == half.state_dict().keys()


def small_inputs(build: Build) -> None:
    """Empty batches and single frames pass in eval mode."""
    quantizer = _started(build).eval()
    for shape in ((0, 5, DIM), (2, 0, DIM), (1, 1, DIM)):
        out = quantizer(torch.zeros(shape))
        assert out.features.shape == shape, f"{shape} gives features {list(out.features.shape)}"
        assert out.codes.shape == (*shape[:2], quantizer.streams), (
            f"{shape} gives codes {list(out.codes.shape)}"
        )
        if quantizer.streams:
            assert quantizer.decode(out.codes).shape == shape, f"codes of {shape} decode to another shape"


def large_inputs(build: Build) -> None:
    """Inputs far outside the usual range give finite features and codes within sizes."""
    quantizer = _started(build).eval()
    out = quantizer(random_features(scale=1e4))
    assert torch.isfinite(out.features).all(), "features are not finite"
    within(out.codes, quantizer.codebook_sizes, "codes")


def pickling(build: Build) -> None:
    """It survives pickling, for worker processes."""
    quantizer = _started(build).eval()
    other = pickle.loads(pickle.dumps(quantizer))
    features = random_features()
    assert torch.equal(other(features).features, quantizer(features).features), (
        "features differ after pickling"
    )


def errors(build: Build) -> None:
    """Wrong shapes, codes outside the codebooks and, in eval mode, features that are NaN or infinite are
    refused with a QuantizerError."""
    quantizer = build().eval()
    for bad in (torch.zeros(4, DIM), torch.zeros(1, 4, DIM + 1)):
        refused(quantizer, bad, f"features {list(bad.shape)} are accepted")
    for value in (torch.nan, torch.inf, -torch.inf):
        bad = random_features()
        bad[1, 2, 3] = value
        refused(quantizer, bad, f"features with {value} are quantized in eval mode")
    codes = quantizer(random_features()).codes
    for stream, size in enumerate(quantizer.codebook_sizes):
        for value in (-1, size):
            wrong = codes.clone()
            wrong[1, 2, stream] = value
            refused(quantizer.decode, wrong, f"code {value} of {size} is decoded")


def diverged(build: Build) -> None:
    """In training, features that are not finite get codes within sizes, and features that show it."""
    quantizer = _started(build)
    for value in (torch.nan, torch.inf):
        features = random_features()
        features[1, 2] = value
        out = quantizer(features.requires_grad_())
        within(out.codes, quantizer.codebook_sizes, f"codes of {value}")
        if value != value:
            assert torch.isnan(out.features[1, 2]).any(), "NaN features come out as if they were finite"


def compiled(build: Build) -> None:
    """torch.compile gives the same features and codes."""
    quantizer = _started(build).eval()
    features = random_features()
    expected = quantizer(features)
    torch._dynamo.reset()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        found = torch.compile(quantizer, backend="aot_eager")(features)
    assert torch.equal(found.codes, expected.codes), "compiled codes differ"
    assert torch.allclose(found.features, expected.features, atol=1e-5), "compiled features differ"


def exported(build: Build) -> None:
    """torch.export gives the same features and codes."""
    quantizer = _started(build).eval()
    if not quantizer.exports:
        raise Skip("it says that torch.export cannot trace it")
    features = random_features()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(quantizer, (features,))
        found = program.module()(features)
    expected = quantizer(features)
    assert torch.equal(found.codes, expected.codes), "exported codes differ"
    assert torch.allclose(found.features, expected.features, atol=1e-5), "exported features differ"


def revival(build: Build) -> None:
    """Codebooks whose use collapsed come back into use."""
    quantizer = build()
    if not quantizer.revives:
        raise Skip("it does not claim to revive dead codes")
    torch.manual_seed(0)
    quantizer.train()
    point = torch.randn(DIM)
    for _ in range(30):
        quantizer(point + 1e-3 * torch.randn(8, 64, DIM))
    codes = [quantizer(torch.randn(8, 64, DIM)).codes for _ in range(450)][-30:]
    for stream, size in zip(torch.cat(codes).unbind(-1), quantizer.codebook_sizes, strict=True):
        share = len(stream.unique()) / size
        assert share > 0.8, f"only {share:.0%} of a codebook is in use after a collapse"


def prefixes(build: Build) -> None:
    """Where first stages can be decoded alone, each number of them costs more bits than the one before, and
    is decoded exactly; the whole is left as it was."""
    quantizer = _started(build).eval()
    if quantizer.depth == 1:
        raise Skip("it has no stages that can be decoded alone")
    features, state = random_features(), copy.deepcopy(quantizer.state_dict())
    bits = 0.0
    for stages in range(1, quantizer.depth + 1):
        part = quantizer.prefix(stages)
        assert part.bits_per_frame > bits, f"{stages} stage(s) cost no more bits than {stages - 1}"
        bits = part.bits_per_frame
        out = part(features)
        within(out.codes, part.codebook_sizes, f"codes of {stages} stage(s)")
        assert torch.equal(part.decode(out.codes), out.features), f"decoding {stages} stage(s) is not exact"
    assert bits == quantizer.bits_per_frame, "all stages are not the whole"
    same(state, quantizer.state_dict(), "a prefix changed")


CHECKS: Mapping[str, Callable[[Build], None]] = {
    function.__name__: function
    for function in (
        *(shapes, bits, round_trip, strides, fresh, encode, gradient, eval_loss, state_dict, autocast),
        *(
            batch_invariance,
            pieces,
            determinism,
            resume,
            small_inputs,
            large_inputs,
            pickling,
            errors,
            diverged,
        ),
        *(start, start_can_be_trained, start_anywhere, start_refuses, compiled, exported, revival, prefixes),
    )
}


def _started(build: Build) -> Quantizer:
    """Built and trained for a few steps from a fixed seed."""
    torch.manual_seed(0)
    return _train(build(), 2, seed=0)


def _train(quantizer: Quantizer, steps: int, seed: int) -> Quantizer:
    torch.manual_seed(seed)
    quantizer.train()
    parameters = list(quantizer.parameters())
    optimizer = torch.optim.SGD(parameters, lr=0.01) if parameters else None
    for step in range(steps):
        features = random_features(seed=step)
        out = quantizer(features)
        loss = (out.features - features).square().mean() + out.loss
        if optimizer is not None:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return quantizer
