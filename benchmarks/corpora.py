"""Time and disk of a large corpus, from a part of it: preparing it, and streaming it.

    python -m benchmarks.corpora folder:PART [--sample-rate 24000] [--encode mp3] [--hours 1000]

Prepares the corpus into a temporary cache and prints seconds of CPU and megabytes per hour of audio, how
much of it is done by the threads of which there is one, and what `--hours` come to. With `--encode`, the same
speech is first packed as a published corpus would have it: `mp3` and `flac` as Emilia (tar of audio and
json), `opus` as MLS. Archives are also streamed, in crops of 3 s.
"""

import argparse
import io
import json
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from rich.console import Console
from rich.table import Table

from experiments.common.machine import data_threads
from experiments.data import TarSplit, cache, prepare, writing
from experiments.data.signal import Int16, resample
from experiments.data.sources.tar_samples import Shard
from experiments.data.sources.tar_shards import require_webdataset

ENCODINGS = {"mp3": ("MP3", "MPEG_LAYER_III"), "opus": ("OGG", "OPUS"), "flac": ("FLAC", "PCM_16")}
OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
SECONDS = 20.0  # of streaming


def packed(folder: Path, kind: str, target: Path, shards: int = 4) -> list[Path]:
    """The speech below `folder` in tar archives, as `kind`."""
    container, subtype = ENCODINGS[kind]
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".flac", ".wav"))
    paths = [target / f"part-{number:06}.tar" for number in range(shards)]
    for number, path in enumerate(paths):
        with tarfile.open(path, "w") as tar:
            for index, file in enumerate(files[number::shards]):
                audio, rate = soundfile.read(file, dtype="int16")
                if kind == "opus" and rate not in OPUS_RATES:
                    continue
                content = io.BytesIO()
                soundfile.write(content, audio, rate, format=container, subtype=subtype)
                speaker = f"{number}{index // 4:05}"
                if kind == "opus":
                    _add(tar, f"mls/train/audio/{speaker}/1/{speaker}_1_{index:06}.opus", content.getvalue())
                else:
                    told = json.dumps({"speaker": speaker}).encode()
                    _add(tar, f"S{speaker}_W{index:06}.json", told)
                    _add(tar, f"S{speaker}_W{index:06}.{kind}", content.getvalue())
    return paths


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def timed_writes() -> list[float]:
    """CPU seconds of each write, with its SHA-256, from now on."""
    seconds: list[float] = []
    write = writing._Shard.write

    def timed(shard: writing._Shard, audio: Int16) -> None:
        began = time.thread_time()
        write(shard, audio)
        seconds.append(time.thread_time() - began)

    writing._Shard.write = timed  # type: ignore[method-assign]
    return seconds


def streaming(paths: list[Path], sample_rate: int) -> tuple[float, float]:
    """Seconds of audio in crops a second, and a CPU second, after a warm-up."""
    split = TarSplit([Shard(str(path), "") for path in paths], sample_rate)
    crops = split.crops(samples=3 * sample_rate, batch_size=40, seed=0)
    for step in range(3):
        crops.batch(step)
    began, cpu, step = time.perf_counter(), time.process_time(), 3
    while time.perf_counter() - began < SECONDS:
        crops.batch(step)
        step += 1
    made = (step - 3) * 40 * 3.0
    rates = made / (time.perf_counter() - began), made / (time.process_time() - cpu)
    crops.close()
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("corpus")
    parser.add_argument("--sample-rate", type=int, default=24_000)
    parser.add_argument("--encode", choices=sorted(ENCODINGS))
    parser.add_argument("--hours", type=float, default=1000.0)
    options = parser.parse_args()
    table = Table("what", "an hour of audio", f"{options.hours:,.0f} hours")
    with tempfile.TemporaryDirectory() as folder:
        spec, archives = options.corpus, []
        if options.encode:
            archives = packed(Path(spec.partition(":")[2]), options.encode, Path(folder))
            spec = f"tar:{folder}/part-*.tar"
        require_webdataset()
        resample(np.zeros(options.sample_rate), options.sample_rate, 16_000)  # imports are not timed
        writes = timed_writes()
        began, cpu, own = time.perf_counter(), time.process_time(), time.thread_time()
        shards = prepare(spec, sample_rate=options.sample_rate, cache=Path(folder) / "cache")
        wall = time.perf_counter() - began
        cpu, own = time.process_time() - cpu, time.thread_time() - own
        splits = [split for split in cache.SPLITS if shards._index.splits[split].names]
        hours = sum(shards.split(split).total_seconds for split in splits) / 3600
        size = sum(path.stat().st_size for path in shards.path.iterdir())
        source = sum(path.stat().st_size for path in archives)
        rows = {
            f"wall clock, {data_threads()} decoding threads": (wall, "s", 3600, "h"),
            "CPU, all threads": (cpu, "s", 3600, "h"),
            "CPU of the writing thread": (sum(writes), "s", 3600, "h"),
            "CPU of the thread that deals out work": (own, "s", 3600, "h"),
            f"disk at {options.sample_rate} Hz": (size / 1e6, "MB", 1e6, "TB"),
            "archives": (source / 1e6, "MB", 1e6, "TB"),
        }
        for name, (value, unit, scale, larger) in rows.items():
            if value:
                whole = value / hours * options.hours / scale
                table.add_row(name, f"{value / hours:.3g} {unit}", f"{whole:.3g} {larger}")
        console = Console(width=110)
        console.print(table)
        if archives:
            rate, per_cpu = streaming(archives, options.sample_rate)
            console.print(
                f"streamed crops of 3 s: {rate:,.0f} s of audio a second, {per_cpu:,.0f} a CPU second"
            )


if __name__ == "__main__":
    main()
