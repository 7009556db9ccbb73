"""A tiny study that was run in a terminal, for all tests of commands."""

import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "experiments.cli"]
LABELS = ("fsq [v2]", "hex [/edge] with a long name")
EVENTS = "events"  # folder of TensorBoard, if that is installed
QUESTION = "Does [hex] beat [/rect] at 12 bit?"
SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")

InTerminal = Callable[..., tuple[int, list[str]]]


@pytest.fixture(scope="session")
def study(speech: Path) -> str:
    return yaml.safe_dump(
        {
            "name": "tiny",
            "question": QUESTION,
            "quantizers": [
                {"name": "fsq", "label": LABELS[0]},
                {"name": "q2d2-hex", "label": LABELS[1]},
            ],
            "bits": 12,
            "data": {"corpus": f"manifest:{speech}"},
            "backbone": {"name": "mdct-tiny", "options": {"width": 16, "blocks": 1}},
            "train": {"steps": 30, "batch_size": 2, "crop_seconds": 0.25, "warmup_steps": 0},
            "evaluate": {"metrics": ["mel_distance"], "audio_examples": 0},
        }
    )


def in_terminal(columns: int, folder: Path, *arguments: str) -> tuple[int, list[str]]:
    """Exit code, and every line that was drawn, escape sequences taken out."""
    done = subprocess.run(
        [sys.executable, str(ROOT / ".ci" / "in_terminal.py"), str(columns), *COMMAND, *arguments],
        cwd=folder,
        capture_output=True,
        timeout=600,
        check=False,
    )
    text = SEQUENCE.sub("", done.stdout.decode())
    return done.returncode, [line for line in re.split(r"[\r\n]+", text) if line.strip()]


@pytest.fixture(scope="session")
def terminal() -> InTerminal:
    """The real command in a terminal of so many columns, in a folder."""
    return in_terminal


@pytest.fixture(scope="session")
def finished(study: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, list[str]]:
    """A folder with the study, run in a terminal of 80 columns, its exit code and its lines."""
    folder = tmp_path_factory.mktemp("terminal")
    (folder / "tiny.yaml").write_text(study)
    mirror = ["--mirror", f"tensorboard:{folder / EVENTS}"] if find_spec("tensorboard") else []
    code, lines = in_terminal(80, folder, "run", "tiny.yaml", "--workers", "2", "--no-figures", *mirror)
    return folder, code, lines
