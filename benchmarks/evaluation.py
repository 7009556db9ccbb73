"""Throughput of the core metrics against a plain loop over the same packages, in one run.

    python benchmarks/evaluation.py --seconds 120 --workers 2

The plain loop is what released evaluation scripts do: file by file, each metric on its own, each package with
its own resampling and its default threads. Ours is timed for the first system of a study (reference cache
empty) and for a further one (cache filled). Rounds alternate, and the best of each counts, so that a busy
machine disturbs both alike. Starting the workers is timed apart: a study does it once.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from experiments.evaluation.scores import score
from experiments.metrics import golden, pool

RATE = 24000
NAMES = ("pesq", "stoi", "estoi", "vuv_f1", "mel_distance")
Clips = dict[str, np.ndarray]


def make_clips(seconds: float) -> tuple[Clips, Clips]:
    """References and noisy copies of 3 to 7 s, together ``seconds`` long."""
    references, reconstructions, total = {}, {}, 0.0
    while total < seconds:
        index = len(references)
        clip = golden.utterance(3.0 + index % 5, RATE) * np.float32(0.5 + 0.1 * (index % 4))
        noise = golden.noise(len(clip), index + 1).astype(np.float32)
        references[f"u{index}"], reconstructions[f"u{index}"] = clip, clip + 0.003 * noise
        total += len(clip) / RATE
    return references, reconstructions


def plain_loop(references: Clips, reconstructions: Clips, threads: int | None = None) -> dict[str, float]:
    """Mean of each metric, computed the obvious way."""
    import torch
    import torchaudio
    from pesq import pesq
    from pystoi import stoi
    from swift_f0 import SwiftF0

    if threads is not None:
        torch.set_num_threads(threads)
    detector = SwiftF0(threads=threads, spin=threads != 1)
    mels = [
        torchaudio.transforms.MelSpectrogram(RATE, n_fft=size, hop_length=size // 4, n_mels=bands, power=1)
        for size, bands in ((192, 16), (384, 32), (768, 64), (1536, 128))
    ]
    totals = dict.fromkeys(NAMES, 0.0)
    for name, clip in references.items():
        x, y = torch.from_numpy(clip), torch.from_numpy(reconstructions[name])
        x16, y16 = (torchaudio.functional.resample(signal, RATE, 16000).numpy() for signal in (x, y))
        totals["pesq"] += pesq(16000, x16, y16, "wb")
        totals["stoi"] += stoi(x.numpy(), y.numpy(), RATE)
        totals["estoi"] += stoi(x.numpy(), y.numpy(), RATE, extended=True)
        voiced_x, voiced_y = (detector.detect(signal, 16000).confidence > 0.5 for signal in (x16, y16))
        totals["vuv_f1"] += 2 * (voiced_x & voiced_y).sum() / (voiced_x.sum() + voiced_y.sum())
        logs = [[mel(signal).clamp_min(1e-5).log() for signal in (x, y)] for mel in mels]
        totals["mel_distance"] += float(np.mean([float((a - b).abs().mean()) for a, b in logs]))
    return {name: float(total / len(references)) for name, total in totals.items()}


def timed(function: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    start = clock()
    function()
    return clock() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=120.0, help="of audio")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--plain-threads", type=int, help="of the plain loop; default: what each package takes"
    )
    arguments = parser.parse_args()

    references, reconstructions = make_clips(arguments.seconds)
    audio = sum(len(clip) for clip in references.values()) / RATE
    some = {name: references[name] for name in list(references)[:2]}

    def ours(cache: Path | None, workers: int, clips: Clips = references) -> None:
        frame = score(
            clips,
            {name: reconstructions[name] for name in clips},
            RATE,
            NAMES,
            workers=workers,
            reference_cache=cache,
        )
        assert (frame["status"] == "ok").all(), frame

    # Imports and models are loaded outside the timings.
    plain_loop(some, reconstructions)
    ours(None, 1, some)
    start_up = timed(lambda: ours(None, arguments.workers))
    times: dict[str, list[float]] = {"plain loop": [], "first system": [], "further system": []}
    for _ in range(arguments.rounds):
        times["plain loop"].append(
            timed(lambda: plain_loop(references, reconstructions, arguments.plain_threads))
        )
        with tempfile.TemporaryDirectory() as folder:
            times["first system"].append(timed(lambda: ours(Path(folder), arguments.workers)))
            times["further system"].append(timed(lambda: ours(Path(folder), arguments.workers)))
    pool.close()
    import torch

    torch.set_num_threads(1)
    # What each costs on one thread, which other load on the machine disturbs least.
    work = {"plain loop": timed(lambda: plain_loop(references, reconstructions, 1), time.process_time)}
    with tempfile.TemporaryDirectory() as folder:
        work["first system"] = timed(lambda: ours(Path(folder), 1), time.process_time)
        work["further system"] = timed(lambda: ours(Path(folder), 1), time.process_time)

    best = {name: min(values) for name, values in times.items()}
    print(f"{len(references)} utterances, {audio:.0f} s of audio at {RATE} Hz, {', '.join(NAMES)}")
    print(f"{'':16s}{'seconds':>9s}{'x real time':>13s}{'to plain':>10s}   one thread: CPU s a s of audio")
    for name, seconds in best.items():
        ratio, cost = best["plain loop"] / seconds, work[name] / audio
        print(f"{name:16s}{seconds:9.2f}{audio / seconds:13.1f}{ratio:9.2f}x{cost:33.3f}")
    print(f"starting {arguments.workers} workers: {start_up - best['first system']:.1f} s, once a study")


if __name__ == "__main__":
    main()
