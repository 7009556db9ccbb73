"""Files that documented command lines take as given: a store, a trained run, recordings, study files."""

import contextlib
import re
import shutil
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import yaml
from typer.testing import CliRunner

import analysis
from experiments.cli import app
from experiments.studies import files

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
ARCHIVE = DOCS / "results" / "studies.zip"
ARCHIVES = {f"docs/results/{path.name}": path for path in sorted(DOCS.glob("results/*.zip"))}
PUBLISHED = tuple(sorted(path.parent.name for path in DOCS.glob("results/*/runs.csv")))
RATE = 16_000  # Hz
TINY: dict[str, Any] = {
    "name": "tiny",
    "quantizers": ["fsq"],
    "bits": 12,
    "data": {"corpus": "manifest:corpus/manifest.csv"},
    "backbone": {"name": "mdct-tiny", "options": {"width": 16, "blocks": 1}},
    "train": {"steps": 2, "batch_size": 2, "crop_seconds": 0.25, "warmup_steps": 0},
    "evaluate": {"metrics": ["mel_distance"], "audio_examples": 0},
}


def clip(seed: int, noise: float = 0.0, seconds: float = 2.0) -> np.ndarray:
    """A gliding harmonic tone in bursts of a syllable's length, with noise. [samples], at RATE."""
    generator = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(140 + 30 * np.sin(2 * np.pi * (0.7 + 0.1 * seed) * time)) / RATE
    tone = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 20))
    audio = 0.2 * tone * np.clip(np.sin(2 * np.pi * 3 * time), 0, None)
    return np.asarray(audio + (0.001 + noise) * generator.standard_normal(len(time)))


def folder_of_clips(folder: Path, noise: float = 0.0) -> Path:
    """Three clips, the same in every folder but for the noise."""
    folder.mkdir(parents=True)
    for seed, name in enumerate(("a", "b", "c")):
        soundfile.write(folder / f"{name}.wav", clip(seed, noise), RATE)
    return folder


def block_of(page: str, language: str, begins: str) -> str:
    """The block of a page that begins with some text."""
    text = (DOCS / page).read_text(encoding="utf-8")
    blocks = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    (block,) = [block for block in blocks if block.startswith(begins)]
    return str(block)


class Workshop:
    """What lines take as given, in a folder; each thing is made when a line first needs it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        decoded = partial(folder_of_clips, noise=0.01)
        self.files: dict[str, Callable[[Path], object]] = {
            **{name: partial(shutil.copy, path) for name, path in ARCHIVES.items()},
            "studies.zip": partial(shutil.copy, ARCHIVE),
            "published.db": self._link_store,
            "theirs.db": self._link_store,
            "my-study.yaml": lambda path: path.write_text(files.template("my-study")),
            "mine.yaml": lambda path: path.write_text(
                block_of("tutorials/first_study.md", "yaml", "extends: quickstart")
            ),
            "log_quantizer": lambda path: path.with_suffix(".py").write_text(
                block_of("adding_a_quantizer.md", "python", "from dataclasses")
            ),
            **dict.fromkeys(("recordings", "originals", "GT"), folder_of_clips),
            **dict.fromkeys(("decoded", "decoded/mycodec", "decoded/opus-6k"), decoded),
            **dict.fromkeys(("Q2D2_6.9K", "Q2D2_3.3K", "WavTokenizer", "Q2D2_1K"), decoded),
            **dict.fromkeys(("speech.wav", "speech.flac"), lambda path: soundfile.write(path, clip(0), RATE)),
            "runs": lambda path: path.symlink_to(self._runs),
            "runs/TRAINING": lambda path: shutil.copytree(self._training, path),
            **dict.fromkeys(("shared", "my-codec"), lambda path: shutil.copytree(self._shared, path)),
            "speech.cbits": lambda path: shutil.copy(self._coded, path),
            "report-quickstart": lambda path: shutil.copytree(self._report, path),
        }

    def put(self, name: str, folder: Path) -> None:
        """Put the file or folder of that name into a folder, unless it is in it."""
        path = folder / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            self.files[name](path)

    @cached_property
    def store(self) -> str:
        """Address of a store with the published studies."""
        for archive in ARCHIVES:
            self.put(archive, self.folder)
            said = self._command("import", archive, "--tracking-uri", "sqlite:///published.db")
            assert re.search(r"^put [1-9]\d* runs into", said, re.MULTILINE), said
        return f"sqlite:///{self.folder / 'published.db'}"

    @cached_property
    def run(self) -> str:
        """The hash of a trained run, in the same store."""
        corpus = self.folder / "corpus"
        corpus.mkdir()
        lines = ["path,speaker,split"]
        for seed, split in enumerate(("train", "validation", "test", "test")):
            soundfile.write(corpus / f"{seed}.wav", clip(seed), RATE)
            lines.append(f"{seed}.wav,{seed},{split}")
        (corpus / "manifest.csv").write_text("\n".join(lines))
        (self.folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
        options = ("--workers", "1", "--no-figures", "--tracking-uri", self.store)
        self._command("run", "tiny.yaml", *options)
        return str(analysis.load("tiny", self.store).runs["run_hash"].item())

    def _link_store(self, path: Path) -> None:
        path.symlink_to(self.store.removeprefix("sqlite:///"))

    @property
    def _runs(self) -> Path:
        assert self.run
        return self.folder / "runs"

    @property
    def _training(self) -> Path:
        (weights,) = self._runs.glob("*/codec.safetensors")
        return weights.parent

    @cached_property
    def _shared(self) -> Path:
        self._command("push", self.run, "folder:shared", "--tracking-uri", self.store)
        return self.folder / "shared"

    @cached_property
    def _coded(self) -> Path:
        self.put("speech.wav", self.folder)
        options = ("--run", self.run, "--tracking-uri", self.store)
        self._command("encode", "speech.wav", "speech.cbits", *options)
        return self.folder / "speech.cbits"

    @cached_property
    def _report(self) -> Path:
        self._command("report", "starts", "--tracking-uri", self.store)
        return self.folder / "report-starts"

    def _command(self, *words: str) -> str:
        with contextlib.chdir(self.folder):
            done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        return done.output
