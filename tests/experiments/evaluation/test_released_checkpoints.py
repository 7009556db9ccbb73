"""Checkpoints as others release them, in the commands: scored on any device, and a start for training."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from typer.testing import CliRunner

from experiments.cli import app
from experiments.studies import runs, study
from experiments.training import starting_weights
from tests.codec.conftest import draw
from tests.codec.test_checkpoint_files import lightning, under
from tests.codec.test_checkpoints import (
    BLOCKS,
    DIM,
    FILTERS,
    HIDDEN,
    STRIDES,
    WIDTH,
    released_config,
    released_state,
)

CORPUS = runs.CorpusIdentity(spec="demo", name="demo", content_hash="", synthetic=False)
SIZES = {"strides": list(STRIDES), "encoder_width": FILTERS, "dim": DIM, "width": WIDTH, "hidden": HIDDEN}
BACKBONE = {"name": "wavtokenizer-small", "options": {**SIZES, "blocks": BLOCKS}}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A Q2D2 file as Lightning writes it, with its YAML file beside it."""
    torch.save(lightning(under("module.", released_state(True, draw))), tmp_path / "q2d2.ckpt")
    (tmp_path / "q2d2.yaml").write_text(yaml.safe_dump(released_config(True, STRIDES)))
    return tmp_path / "q2d2.ckpt"


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    folder.mkdir()
    time = np.arange(24_000) / 24_000
    soundfile.write(folder / "tone.wav", 0.3 * np.sin(2 * np.pi * 300 * time), 24_000)
    return folder


def run(*arguments: Any) -> Any:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(argument) for argument in arguments])


def test_one_command_scores_a_checkpoint(checkpoint: Path, recordings: Path) -> None:
    codec = f"q2d2:{checkpoint},config={checkpoint.with_suffix('.yaml')}"
    scored = ("evaluate", recordings, "--metrics", "si_sdr", "--workers", 1, "--format", "json")
    done = run(*scored, "--codec", codec, "--device", "cpu")
    assert done.exit_code == 0, done.output
    [system] = json.loads(done.stdout)["systems"]
    assert (system["name"], system["scores"][0]["scored"]) == ("q2d2 q2d2", 1)
    named = f"wavtokenizer:{checkpoint},quantizer=q2d2-rhombic-released,levels=9:9:7:7"
    released_config_rate, default_rate = 16_000, 24_000  # which of them audio is brought to changes bits
    [other] = json.loads(run(*scored, "--codec", named).stdout)["systems"]
    assert other["bitrate"] == pytest.approx(system["bitrate"] * default_rate / released_config_rate)


def test_what_cannot_be_is_one_message(checkpoint: Path, recordings: Path) -> None:
    scored = ("evaluate", recordings, "--metrics", "si_sdr", "--codec", f"q2d2:{checkpoint}")
    done = run(*scored)
    assert done.exit_code == 2
    assert "a Q2D2 model of 4 channels" in " ".join(done.output.split())
    done = run(*scored, "--device", "cuda:7")
    assert done.exit_code == 2
    assert "--device" in done.output


def test_training_starts_from_a_checkpoint_and_knows_it_by_its_content(
    checkpoint: Path, tmp_path: Path
) -> None:
    def loaded(path: Path) -> runs.Run:
        values = {
            "name": "tune",
            "quantizers": [{"name": "fsq", "bits": 9}],
            "backbone": BACKBONE,
            "train": {"warm_start": {"checkpoint": str(path)}},
        }
        return runs.expand(study.check(values, "tune.yaml"), CORPUS)[0]

    tuned = loaded(checkpoint)
    codec = tuned.codec()
    before = {key: value.clone() for key, value in codec.state_dict().items()}
    starting_weights.load_backbone(codec, tuned, tmp_path)
    fresh = [key for key, value in codec.state_dict().items() if torch.equal(value, before[key])]
    assert {key.split(".")[0] for key in fresh} == {"quantizer"}
    direction = released_state(True, draw)["feature_extractor.encodec.encoder.model.0.conv.conv.weight_v"]
    stem = codec.encoder.get_parameter("stem.conv.parametrizations.weight.original1")
    torch.testing.assert_close(stem, direction)

    copy = tmp_path / "copy.ckpt"
    copy.write_bytes(checkpoint.read_bytes())
    assert loaded(copy).training_hash == tuned.training_hash  # the content counts, not the name
    torch.save(lightning(released_state(False, draw)), copy)
    assert loaded(copy).training_hash != tuned.training_hash
    assert re.fullmatch(r"[0-9a-f]{64}", tuned.training_identity["train"]["warm_start"]["checkpoint"])
