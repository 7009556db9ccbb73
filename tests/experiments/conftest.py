"""A small corpus of real (synthesised) speech, made once, and a study that takes seconds."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from typer.testing import Result

    from experiments.studies.runs import CorpusIdentity

SENTENCES = {
    "train": (
        "A red kite circled above the barn.",
        "Nobody asked where the keys had gone.",
        "Seven boats left.",
    ),
    "val": ("The kettle began to sing.",),
    "test": ("Please put the blue cups away.", "They walked home along the river."),
}

SMALL = {
    "name": "small",
    "quantizers": ["none", "vq", "rvq", "fsq", "q2d2-hex", "q2d2-rect", "q2d2-rhombic"],
    "bits": 19.1,
    "backbone": {"name": "mdct-tiny", "options": {"width": 32, "blocks": 1}},
    "train": {
        "steps": 12,
        "batch_size": 4,
        "warmup_steps": 2,
        "log_every": 2,
        "validate_every": 6,
        "checkpoint_every": 4,
        "warm_start": {"steps": 6},
    },
    "evaluate": {"metrics": ["pesq", "stoi", "mel_distance"], "audio_examples": 1},
}


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of six spoken sentences at 24 kHz."""
    import soundfile
    from hibari import Hibari

    folder = tmp_path_factory.mktemp("speech")
    voice = Hibari(threads=1)
    lines = ["path,speaker,split"]
    for split, texts in SENTENCES.items():
        for number, text in enumerate(texts):
            name = f"{split}{number}.wav"
            soundfile.write(folder / name, voice(text, seed=number), 24_000)
            lines.append(f"{name},{split},{split}")
    (folder / "manifest.csv").write_text("\n".join(lines))
    return folder / "manifest.csv"


@pytest.fixture(scope="session")
def small_study(speech: Path) -> str:
    """The text of a study file over the spoken sentences."""
    return yaml.safe_dump({**SMALL, "data": {"corpus": f"manifest:{speech}"}})


@pytest.fixture(scope="session")
def in_this_process() -> "Callable[..., Result]":
    """A command in a folder, in this process: one of its own would import for seconds, and twice."""
    return _in_this_process


def _in_this_process(folder: Path, *arguments: str, code: int = 0) -> "Result":
    from typer.testing import CliRunner

    from experiments.cli import app

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        done = CliRunner().invoke(app, [*arguments])
    assert done.exit_code == code, done.output
    return done


@pytest.fixture(scope="session")
def identify() -> "Callable[[str], CorpusIdentity]":
    """The identity of a corpus at 16 kHz."""
    from experiments.data import prepare
    from experiments.studies.runs import CorpusIdentity

    def identity(spec: str) -> CorpusIdentity:
        shards = prepare(spec, sample_rate=16_000)
        return CorpusIdentity(spec=spec, name=shards.name, content_hash=shards.content_hash, synthetic=True)

    return identity
