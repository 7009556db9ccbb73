"""Speed of the data room: preparing, opening, and drawing crops, beside drawing them from files.

    python -m benchmarks.data [--corpus demo] [--sample-rate 16000] [--seconds 3]
    python -m benchmarks.data --feeding [--corpus demo]

Prints a table. One row reads the same crops with soundfile from FLAC files, as without shards. The last ones
train the smallest backbone, which asks for the most crops per second, and tell how long its steps wait. With
--feeding: what a core prepares, beside what a GPU takes (benchmarks/feeding.py).
"""

import argparse
import io
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from rich.console import Console
from rich.table import Table

from benchmarks import feeding
from experiments.data import TarSplit, prepare
from experiments.data.dataset import Crops, Split
from experiments.data.signal import TARGET_DBFS
from experiments.data.sources.tar_shards import Shard


def per_second(work: Callable[[int], object], budget: float) -> float:
    """Calls of `work(step)` a second, over about `budget` seconds."""
    work(0)
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < budget:
        steps += 1
        work(steps)
    return steps / (time.perf_counter() - start)


class FileCrops:
    """The same crops decoded from one FLAC file a clip."""

    def __init__(self, crops: Crops, folder: Path):
        self.crops, self.split = crops, crops.split
        self.paths = [folder / f"{number}.flac" for number in range(len(self.split))]
        for number, path in enumerate(self.paths):
            soundfile.write(path, self.split.pcm(number), self.split.sample_rate)

    def batch(self, step: int) -> np.ndarray:
        rows = []
        for clip, start in zip(*self.crops.positions(step), strict=True):
            audio, _ = soundfile.read(
                self.paths[clip], self.crops.samples, int(max(0, start)), dtype="float32", fill_value=0.0
            )
            rows.append(audio * (10 ** (TARGET_DBFS / 20) / max(1e-9, float(np.sqrt(np.mean(audio**2))))))
        return np.stack(rows)


def tar_split(split: Split, folder: Path, shards: int = 8) -> TarSplit:
    """The clips of `split` as FLAC in tar shards."""
    paths = [folder / f"{number:02}.tar" for number in range(shards)]
    for number, path in enumerate(paths):
        with tarfile.open(path, "w") as tar:
            for clip in range(number, len(split), shards):
                file = io.BytesIO()
                soundfile.write(file, split.pcm(clip), split.sample_rate, format="FLAC")
                entry = tarfile.TarInfo(f"{clip}.flac")
                entry.size = len(file.getvalue())
                tar.addfile(entry, io.BytesIO(file.getvalue()))
    return TarSplit([Shard(str(path), "") for path in paths], split.sample_rate)


def training(batch: Callable[[int], np.ndarray], sample_rate: int, budget: float) -> tuple[float, float]:
    """Steps a second of a training of the smallest backbone, and the share of their time spent on crops."""
    import torch

    import quantizers
    from codec import backbones, model
    from codec.losses import objectives

    codec = model.build(
        backbones.get("mdct-tiny"), lambda dim: quantizers.create("fsq", dim=dim, bits=19.0), seed=0
    )
    losses = objectives.Losses(objectives.get("spectral"), sample_rate)
    optimizer = torch.optim.AdamW(codec.parameters(), fused=True)
    waited, step = 0.0, 0

    def one(step: int) -> float:
        start = time.perf_counter()
        audio = torch.from_numpy(batch(step))
        waited = time.perf_counter() - start
        optimizer.zero_grad()
        torch.stack(list(losses.generator(codec(audio), audio, step).values())).sum().backward()
        optimizer.step()
        return waited

    for step in range(3):
        one(step)
    start = time.perf_counter()
    while time.perf_counter() - start < budget:
        step += 1
        waited += one(step)
    taken = time.perf_counter() - start
    return (step - 2) / taken, waited / taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--corpus", default="demo")
    parser.add_argument("--sample-rate", type=int, default=16_000)
    parser.add_argument("--seconds", type=float, default=3.0, help="time spent on each measurement")
    parser.add_argument("--feeding", action="store_true", help="seconds of audio a core, and a GPU's need")
    options = parser.parse_args()
    if options.feeding:
        with tempfile.TemporaryDirectory() as folder:
            split = prepare(options.corpus, sample_rate=feeding.RATE).split("train")
            Console(width=140).print(feeding.table(split, Path(folder), steps=13))
        return
    table = Table("what", "figure", title=f"data room, {options.corpus}")
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        shards = prepare(options.corpus, sample_rate=options.sample_rate, cache=Path(folder))
        made = time.perf_counter()
        prepare(options.corpus, sample_rate=options.sample_rate, cache=Path(folder))
        opened = time.perf_counter()
        train: Split = shards.split("train")
        minutes = sum(shards.split(name).total_seconds for name in ("train", "validation", "test")) / 60
        table.add_row("prepare, first time", f"{made - start:.1f} s for {minutes:.1f} min of audio")
        table.add_row("prepare, from the cache (checksums verified)", f"{(opened - made) * 1e3:.0f} ms")
        for seconds in (0.5, 1.0, 3.0):
            samples = round(seconds * options.sample_rate)
            rate = 16 * per_second(
                Crops(train, samples=samples, batch_size=16, seed=0).batch, options.seconds
            )
            table.add_row(
                f"crops of {seconds} s, batches of 16",
                f"{rate:,.0f} a second, {rate * seconds:,.0f} s of audio",
            )
        files = FileCrops(Crops(train, samples=options.sample_rate // 2, batch_size=16, seed=0), Path(folder))
        table.add_row(
            "the same crops of 0.5 s from FLAC files",
            f"{16 * per_second(files.batch, options.seconds):,.0f} a second",
        )
        streamed = tar_split(train, Path(folder)).crops(
            samples=options.sample_rate // 2, batch_size=16, seed=0
        )
        table.add_row(
            "crops of 0.5 s streamed from tar shards of FLAC",
            f"{16 * per_second(streamed.batch, options.seconds):,.0f} a second",
        )
        crops = Crops(train, samples=options.sample_rate // 2, batch_size=16, seed=0)
        for name, batch in (("memory-mapped", crops.batch), ("streamed", streamed.batch)):
            rate, share = training(batch, options.sample_rate, 3 * options.seconds)
            table.add_row(
                f"training mdct-tiny on such crops, {name}",
                f"{16 * rate:,.0f} crops per second, {100 * share:.2g} % of the time spent on them",
            )
        streamed.close()
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
