"""Measurements of a trained codec: quality on the whole test split, use of codes, rates, cost."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from codec.float32 import full_precision
from codec.model import Codec
from experiments.data.dataset import Split
from experiments.evaluation.scores import aggregate, score
from quantizers.geometry.slices import principal_slice
from quantizers.spread import SpreadCounter
from quantizers.usage import UsageCounter

if TYPE_CHECKING:
    import pandas as pd

LATENT_POINTS = 20_000  # kept of each pair of channels, for figures
PAIR_CODES = 2**14  # most joint codes of two channels that are counted, for figures

MEANS = ("used_fraction", "dead_fraction", "perplexity", "entropy_bits", "entropy_fraction")


@dataclass(frozen=True)
class Reconstructions:
    """The test split through a codec.

    audio: utterance to (reference, reconstruction), float32 [samples]. usage: `UsageCounter.report()`.
    spread: `SpreadCounter.metrics()`.
    histograms: counts of each factor's codes; where every channel is a factor, also `pair_0` and so on,
    [x * y], of each pair of channels. latents: `pair_0` and so on, [points, 2] in grid units, empty where
    the quantizer has no plane. slices: `<field>_<group>` of the `Slice` of each learned codebook. seconds of
    compute and of audio. exact: utterances whose codes alone decode to the very features of the forward
    pass. factors: [frames, factors] of the codes of each utterance, in the smallest type that holds them.
    """

    audio: dict[str, tuple[np.ndarray, np.ndarray]]
    usage: dict[str, Any]
    spread: dict[str, float]
    histograms: dict[str, np.ndarray]
    latents: dict[str, np.ndarray]
    compute_seconds: float
    audio_seconds: float
    exact: int
    slices: dict[str, np.ndarray] = field(default_factory=dict)
    factors: list[np.ndarray] = field(default_factory=list)


@full_precision()
@torch.inference_mode()
def reconstruct(codec: Codec, split: Split, check: Callable[[int, int], None]) -> Reconstructions:
    """Run every clip of `split` through `codec`, in fp32. `check(done, asked)` is called after each."""
    codec.eval()
    device = next(codec.parameters()).device
    quantizer = codec.quantizer
    counter = UsageCounter.of(quantizer)
    spread = SpreadCounter(quantizer)
    audio: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    coordinates: list[np.ndarray] = []
    vectors: list[torch.Tensor] = []
    pairs = _Pairs(quantizer.factor_sizes)
    kept: list[np.ndarray] = []
    smallest = np.min_scalar_type(max(quantizer.factor_sizes, default=1) - 1)
    compute = seconds = 0.0
    exact = 0
    for index in range(len(split)):
        reference = split.clip(index)
        started = time.perf_counter()
        output = codec(torch.from_numpy(reference)[None].to(device))
        reconstruction = output.audio[0].cpu().numpy()
        compute += time.perf_counter() - started
        seconds += len(reference) / codec.sample_rate
        quantized = output.quantized
        spread.update(output.features, quantized)
        if quantizer.streams:
            factors = quantizer.factors(quantized.codes)
            counter.update(quantized.codes, factors)
            kept.append(factors[0].cpu().numpy().astype(smallest))
            exact += bool(torch.equal(quantizer.decode(quantized.codes), quantized.features))
            if "coordinates" in quantized.diagnostics:
                coordinates.append(quantized.diagnostics["coordinates"][0].cpu().numpy())
                if coordinates[-1].shape[-1] == factors.shape[-1]:
                    pairs.add(factors[0].cpu().numpy())
            if "vectors" in quantized.diagnostics:
                vectors.append(_spaced(quantized.diagnostics["vectors"][0].cpu(), len(split)))
        audio[split.names[index]] = (reference, reconstruction)
        check(index + 1, len(split))
    return Reconstructions(
        audio=audio,
        usage=counter.report(),
        spread=spread.metrics(),
        histograms=counter.histograms() | pairs.counts,
        latents=_pairs(coordinates),
        slices=_slices(quantizer.codebook_vectors, vectors),
        factors=kept,
        compute_seconds=compute,
        audio_seconds=seconds,
        exact=exact,
    )


@full_precision()
@torch.inference_mode()
def in_bf16(codec: Codec, split: Split, check: Callable[[int, int], None]) -> dict[str, float]:
    """The round trip with the encoder under bf16 autocast.

    `eval/bf16_round_trip_exact`: share of utterances whose codes alone decode to the very features of the
    forward pass. `eval/bf16_codes_differ`: share of all codes that are not those of fp32. Empty where the
    quantizer has no codes.
    """
    quantizer = codec.eval().quantizer
    if not quantizer.streams:
        return {}
    device = next(codec.parameters()).device
    exact = differing = codes = 0
    for index in range(len(split)):
        audio = torch.from_numpy(split.clip(index))[None].to(device)
        with torch.autocast(device.type, torch.bfloat16):
            quantized = quantizer(codec.features(audio))
        exact += bool(torch.equal(quantizer.decode(quantized.codes), quantized.features))
        other = codec.encode(audio)
        for stream, stride in enumerate(quantizer.stream_strides):
            tokens = quantized.codes[:, ::stride, stream]
            differing += int((other[:, ::stride, stream] != tokens).sum())
            codes += tokens.numel()
        check(index + 1, len(split))
    return {"eval/bf16_round_trip_exact": exact / len(split), "eval/bf16_codes_differ": differing / codes}


def quality(
    made: Reconstructions,
    sample_rate: int,
    metrics: tuple[str, ...],
    check: Callable[[int, int], None],
    reference_cache: Path | None = None,
    *,
    workers: int = 1,
) -> "tuple[pd.DataFrame, dict[str, float]]":
    """Scores of every utterance, by `workers` processes, and `eval/...` aggregates with their 95 % intervals.

    reference_cache: a folder in which the runs of a study share what is computed from references alone.
    """
    references, reconstructions = _Side(made.audio, 0), _Side(made.audio, 1)
    scores = score(
        references,
        reconstructions,
        sample_rate,
        metrics,
        workers=workers,
        progress=check,
        reference_cache=reference_cache,
    )
    return scores, summarise(scores)


def summarise(scores: "pd.DataFrame") -> dict[str, float]:
    """`eval/...` of the frame of `evaluate.score`: means with intervals, and counts."""
    values: dict[str, float] = {}
    for row in aggregate(scores).to_dict("records"):
        name = f"eval/{row['metric']}"
        values |= {f"{name}_{count}": float(row[count]) for count in ("asked", "scored", "failed")}
        measured = {name: row["mean"], f"{name}_low": row["low"], f"{name}_high": row["high"]}
        values |= {key: float(value) for key, value in measured.items() if np.isfinite(value)}
    return values


def use(report: Mapping[str, Any], spread: Mapping[str, float]) -> dict[str, float]:
    """`usage/...`: means over factors, beside what a uniform source of as many tokens would show; saturation
    and effective dimension.

    `usage/tokens` are frames. Where streams have strides, a joint code spans `usage/joint_frames`, and
    `usage/joint_tokens` of them were seen.
    """
    spreads = {f"usage/{name}": value for name, value in spread.items()}
    if not report["factors"]:
        return spreads
    names = ("tokens", *MEANS, "uniform_used_fraction", "uniform_perplexity")
    values = {f"usage/{name}": float(report[name]) for name in names}
    joint = report["joint"] or {}
    if joint.get("frames", 1) > 1:
        values |= {f"usage/joint_{name}": float(joint[name]) for name in ("frames", "tokens")}
    return values | spreads | {f"usage/joint_{name}": float(joint[name]) for name in MEANS if name in joint}


def cost(codec: Codec, made: Reconstructions) -> dict[str, float]:
    """`cost/...`: parameters with learned codebooks, seconds of compute a second of audio, both ways."""
    backbone = sum(p.numel() for part in (codec.encoder, codec.decoder) for p in part.parameters())
    return {
        "cost/parameters": float(backbone + codec.quantizer.learned_values),
        "cost/quantizer_parameters": float(codec.quantizer.learned_values),
        "cost/real_time_factor": made.compute_seconds / made.audio_seconds,
    }


class _Side(Mapping[str, np.ndarray]):
    """One side of the pairs, read as `score` asks for it."""

    def __init__(self, audio: Mapping[str, tuple[np.ndarray, np.ndarray]], side: int) -> None:
        self.audio, self.side = audio, side

    def __getitem__(self, name: str) -> np.ndarray:
        return self.audio[name][self.side]

    def __iter__(self) -> Iterator[str]:
        return iter(self.audio)

    def __len__(self) -> int:
        return len(self.audio)


def _pairs(coordinates: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Evenly spaced points of all utterances, split into pairs of channels."""
    if not coordinates:
        return {}
    every = np.concatenate(coordinates)
    kept = every[np.linspace(0, len(every) - 1, min(len(every), LATENT_POINTS)).astype(int)]
    return {f"pair_{i}": kept[:, 2 * i : 2 * i + 2] for i in range(kept.shape[1] // 2)}


class _Pairs:
    """Counts of the joint codes of channels 1 and 2, 3 and 4, and so on, where each channel has its code."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self._sizes = sizes
        self.counts: dict[str, np.ndarray] = {}

    def add(self, factors: np.ndarray) -> None:
        """Count `factors` [frames, channels]."""
        for pair in range(len(self._sizes) // 2):
            x, y = self._sizes[2 * pair : 2 * pair + 2]
            if x * y > PAIR_CODES:
                continue
            joint = np.bincount(factors[:, 2 * pair] * y + factors[:, 2 * pair + 1], minlength=x * y)
            self.counts[f"pair_{pair}"] = self.counts.get(f"pair_{pair}", 0) + joint


def _spaced(vectors: torch.Tensor, clips: int) -> torch.Tensor:
    """This clip's share of `LATENT_POINTS`: evenly spaced frames of `vectors` [frames, groups, dim]."""
    wanted = min(len(vectors), -(-LATENT_POINTS // clips))
    return vectors[torch.linspace(0, len(vectors) - 1, wanted).long()]


def _slices(codebooks: torch.Tensor | None, vectors: list[torch.Tensor]) -> dict[str, np.ndarray]:
    if codebooks is None or codebooks.shape[-1] < 2:
        return {}
    seen = torch.cat(vectors)
    slices: dict[str, np.ndarray] = {}
    for group, codes in enumerate(codebooks.cpu()):
        for name, values in principal_slice(codes, seen[:, group])._asdict().items():
            slices[f"{name}_{group}"] = values.numpy()
    return slices
