"""Speed of the data room: preparing, opening, and drawing crops, beside drawing them from files.

    python -m benchmarks.data [--corpus demo] [--sample-rate 16000] [--seconds 3]

Prints a table. Its last row reads the same crops with soundfile from FLAC files, as without shards.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from rich.console import Console
from rich.table import Table

from experiments.audio import TARGET_DBFS
from experiments.data import Crops, Split, prepare


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--corpus", default="demo")
    parser.add_argument("--sample-rate", type=int, default=16_000)
    parser.add_argument("--seconds", type=float, default=3.0, help="time spent on each measurement")
    options = parser.parse_args()
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
    Console().print(table)


if __name__ == "__main__":
    main()
