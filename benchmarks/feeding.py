"""Seconds of audio that a core prepares, beside those that the paper's backbone takes on an H100.

`python -m benchmarks.data --feeding` prints them. What a core prepares is measured: batches of 40 crops of
3 s at 24 kHz, by CPU seconds of all threads, which other processes disturb less than wall-clock seconds. What
a GPU takes is computed: operations of a training step, counted in a real one, over an assumed rate.
"""

import io
import os
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import soundfile
from rich.table import Table

from experiments.common.machine import cores
from experiments.data import TarSplit
from experiments.data.dataset import Split
from experiments.data.signal import resample
from experiments.data.sources.tar_shards import Shard

RATE = 24_000
CROPS, SECONDS = 40, 3.0  # of a batch
CLIP_SECONDS = 12.0
SHARDS = 4
BACKBONE = "wavtokenizer-53"
# Dense peak of an H100 SXM in bf16 by NVIDIA's data sheet, and the share of it that is assumed.
H100, UTILISATION = 989e12, 0.25
# Formats of files in a tar, with their container and coding for libsndfile and their rate in Hz.
FORMATS: dict[str, tuple[str, str, str, int]] = {
    "FLAC, 24 kHz": ("flac", "FLAC", "PCM_16", 24_000),
    "MP3, 24 kHz": ("mp3", "MP3", "MPEG_LAYER_III", 24_000),
    "Opus, 24 kHz": ("ogg", "OGG", "OPUS", 24_000),
    "Opus, 48 kHz": ("ogg", "OGG", "OPUS", 48_000),
}
Batch = Callable[[int], np.ndarray]


def operations_a_second(seconds: float = 0.5) -> float:
    """Floating-point operations of a training step of `BACKBONE` against all discriminators, for a second of
    audio; those of its LSTM, below 1 %, are not counted."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    import quantizers
    from codec import backbones, model
    from codec.losses import objectives

    codec = model.build(
        backbones.get(BACKBONE), lambda dim: quantizers.create("fsq", dim=dim, bits=20.0), seed=0
    )
    losses = objectives.Losses(objectives.get("wavtokenizer"), codec.sample_rate)
    assert losses.adversary is not None
    audio = 0.1 * torch.randn(1, round(seconds * codec.sample_rate / codec.hop) * codec.hop)
    with FlopCounterMode(display=False) as counter:
        output = codec(audio)
        torch.stack(list(losses.adversary(audio, output.audio).values())).sum().backward()
        torch.stack(list(losses.generator(output, audio, 0).values())).sum().backward()
    return counter.get_total_flops() * codec.sample_rate / audio.shape[-1]


def prepared_a_cpu_second(batch: Batch, first: int, steps: int) -> float:
    """Seconds of audio in the batches of `steps` steps, after `first` that are not timed, a CPU second."""
    for step in range(first):
        batch(step)
    started = time.process_time()
    for step in range(first, first + steps):
        batch(step)
    return steps * CROPS * SECONDS / (time.process_time() - started)


def joined_clips(split: Split) -> Iterator[np.ndarray]:
    """The audio of `split`, int16, in clips of at least `CLIP_SECONDS`."""
    kept: list[np.ndarray] = []
    for number in range(len(split)):
        kept.append(split.pcm(number))
        if sum(map(len, kept)) >= CLIP_SECONDS * split.sample_rate:
            yield np.concatenate(kept)
            kept.clear()


def shards(split: Split, folder: Path, kind: str) -> tuple[TarSplit, float]:
    """The clips of `split` in tar files of one of `FORMATS`, and bytes a second of audio."""
    ending, container, coding, rate = FORMATS[kind]
    paths = [folder / f"{ending}{rate}-{number}.tar" for number in range(SHARDS)]
    size = seconds = 0.0
    with ExitStack() as stack:
        tars = [stack.enter_context(tarfile.open(path, "w")) for path in paths]
        for number, clip in enumerate(joined_clips(split)):
            audio = resample(clip / 2.0**15, split.sample_rate, rate)
            file = io.BytesIO()
            soundfile.write(file, audio, rate, format=container, subtype=coding)
            entry = tarfile.TarInfo(f"{number}.{ending}")
            entry.size = len(file.getvalue())
            tars[number % SHARDS].addfile(entry, io.BytesIO(file.getvalue()))
            size, seconds = size + entry.size, seconds + len(audio) / rate
    return TarSplit([Shard(str(path), "") for path in paths], RATE), size / seconds


def table(split: Split, folder: Path, steps: int) -> Table:
    """What a core prepares from memory-mapped shards and from tars, and how many cores feed an H100."""
    operations = operations_a_second()
    eaten = H100 * UTILISATION / operations
    made = Table("source", "s of audio a CPU second", "kB/s", "cores for an H100")
    made.title = f"{split.name} of {split.sample_rate} Hz, batches of {CROPS} x {SECONDS:g} s"
    made.caption = (
        f"{BACKBONE} with all discriminators: {operations / 1e9:.0f} GFLOP a second of audio; at "
        f"{UTILISATION:.0%} of {H100 / 1e12:.0f} TFLOP/s an H100 takes {eaten:.0f} s of audio a second. "
        f"{cores()} cores, load {os.getloadavg()[0]:.1f} at the end"
    )
    samples = round(SECONDS * RATE)

    def row(name: str, batch: Batch, first: int, count: int, size: float) -> None:
        rate = prepared_a_cpu_second(batch, first, count)
        made.add_row(name, f"{rate:,.0f}", f"{eaten * size / 1e3:,.0f}", f"{eaten / rate:.2f}")

    mapped = split.crops(samples=samples, batch_size=CROPS, seed=0)
    row("memory-mapped shards", mapped.batch, 2, 4 * steps, 2.0 * RATE)
    for kind in FORMATS:
        tars, size = shards(split, folder, kind)
        crops = tars.crops(samples=samples, batch_size=CROPS, seed=0)
        row(f"tar of {kind}", crops.batch, steps, steps, size)
        crops.close()
    return made
