"""`push` and `pull` of really trained runs, with folders and with a hub on this machine."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
import yaml

import analysis
import quantizers
from codec import backbones
from codec.model import build
from experiments.commands.sharing import hub as hubs
from experiments.commands.sharing.places import PlaceError, Repository, parse
from experiments.common import tensor_files
from experiments.common.run_folder import WEIGHTS
from experiments.tracking.models import shared_folder
from experiments.tracking.models.trained_codecs import load_trained
from experiments.tracking.named_runs import RunError
from quantizers import registry

# Of huggingface_hub and its client for HTTP, among themselves.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

Finished = tuple[Path, int, list[str]]
MODEL = "hf://somebody/codec"


@pytest.fixture(scope="module")
def options(finished: Finished) -> list[str]:
    folder = finished[0]
    return ["--runs", str(folder / "runs"), "--tracking-uri", f"sqlite:///{folder / 'mlflow.db'}"]


@pytest.fixture(scope="module")
def runs(finished: Finished) -> dict[str, str]:
    """Run hash by quantizer."""
    results = analysis.load("tiny", f"sqlite:///{finished[0] / 'mlflow.db'}")
    return dict(zip(results.runs["quantizer"], results.runs["run_hash"], strict=True))


@pytest.fixture(scope="module")
def shared(command: Any, runs: dict[str, str], options: list[str], tmp_path_factory: Any) -> Path:
    """The run of q2d2-hex, in a folder."""
    folder = tmp_path_factory.mktemp("shared") / "hex"
    command("push", runs["q2d2-hex"], f"folder:{folder}", "--licence", "cc-by-4.0", *options)
    return folder


def same_codec(folder: Path, run: str, options: list[str]) -> None:
    own = load_trained(run, options[3], runs_folder=options[1])
    other = load_trained(folder)
    audio = 0.1 * torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(own.codec.reconstruct(audio), other.codec.reconstruct(audio))
    assert own.digest == other.digest  # what coded files name their codec by


def test_a_folder_has_weights_configuration_and_card(shared: Path) -> None:
    assert sorted(path.name for path in shared.iterdir()) == sorted(shared_folder.FILES)
    _, metadata = tensor_files.read(shared / WEIGHTS)
    assert json.loads(metadata["config"]).keys() == {"backbone", "quantizer", "seed"}  # no names of files


def test_the_card_has_the_results_of_the_run(shared: Path, finished: Finished) -> None:
    results = analysis.load("tiny", f"sqlite:///{finished[0] / 'mlflow.db'}")
    run = results.runs[results.runs["quantizer"] == "q2d2-hex"].iloc[0]
    _, front, body = (shared / shared_folder.CARD).read_text().split("---\n", 2)
    about = yaml.safe_load(front)
    assert about["license"] == "cc-by-4.0"
    assert "q2d2-hex" in about["tags"]
    (entry,) = about["model-index"][0]["results"]
    assert about["model-index"][0]["name"] == "hex [/edge] with a long name"
    assert entry["dataset"]["revision"] == run["corpus_hash"]
    assert entry["metrics"] == [
        {"type": "mel_distance", "name": "mel dist.", "value": round(run["eval/mel_distance"], 6)}
    ]
    assert r"# hex \[/edge\] with a long name" in body
    assert f"nominal {run['rate/bitrate'] / 1000:.3f} kbit/s" in body
    assert f"| {run['eval/mel_distance']:.3f} |" in body
    assert "analysis.load_codec('hex')" in body
    assert "It began from random weights." in body
    assert run["run_hash"] in body


def test_the_lines_of_the_card_run(shared: Path, monkeypatch: pytest.MonkeyPatch, finished: Finished) -> None:
    monkeypatch.chdir(shared.parent)
    body = (shared / shared_folder.CARD).read_text()
    lines = body.split("```python\n")[1].split("```")[0]
    names = {"audio": torch.zeros(1, 4000)}
    exec(lines, names)
    assert names["decoded"].shape == (1, 4000)


def test_a_pulled_folder_is_the_codec_of_the_run(
    command: Any, shared: Path, runs: dict[str, str], options: list[str], tmp_path: Path
) -> None:
    command("pull", f"folder:{shared}", tmp_path / "pulled")
    same_codec(tmp_path / "pulled", runs["q2d2-hex"], options)
    command("pull", f"folder:{shared}", tmp_path / "pulled")  # replaces what an earlier one wrote


def test_commands_take_a_pulled_folder(
    command: Any, shared: Path, runs: dict[str, str], options: list[str], speech: Path, tmp_path: Path
) -> None:
    clip = speech.parent / "test0.wav"
    command("encode", clip, tmp_path / "coded", "--run", runs["q2d2-hex"], *options)
    command("decode", tmp_path / "coded", tmp_path / "decoded.wav", "--checkpoint", shared)
    audio, rate = soundfile.read(tmp_path / "decoded.wav", dtype="float32")
    assert rate == analysis.load_codec(shared).sample_rate
    assert abs(len(audio) / rate - soundfile.info(clip).duration) < 0.001


def test_evaluate_takes_a_pulled_folder(
    command: Any, shared: Path, finished: Finished, speech: Path, tmp_path: Path
) -> None:
    (tmp_path / "audio").mkdir()
    for name in ("test0.wav", "test1.wav"):
        (tmp_path / "audio" / name).write_bytes((speech.parent / name).read_bytes())
    done = command(
        *("evaluate", tmp_path / "audio", "--codec", f"trained:{shared}"),
        *("--metrics", "mel_distance", "--format", "json", "--quiet"),
    )
    (system,) = json.loads(done.stdout)["systems"]
    assert system["name"] == "hex"
    assert system["scores"][0]["scored"] == 2
    assert system["bitrate"] == pytest.approx(analysis.load_codec(shared).bitrate, rel=0.01)


def test_push_and_pull_through_a_hub(
    command: Any, hub: Any, runs: dict[str, str], options: list[str], tmp_path: Path
) -> None:
    done = command("push", runs["fsq"], MODEL, "--quiet", *options)
    assert f"{hub.address}/somebody/codec" in done.stdout
    repository = hub.repositories["somebody/codec"]
    assert not repository.private
    assert repository.large == {WEIGHTS}  # went as a large file
    assert {*repository.commits[repository.head]} == {*shared_folder.FILES}
    card = repository.commits[repository.head]["README.md"].decode()
    assert f"codecbench pull {MODEL}" in card
    command("pull", MODEL, tmp_path / "pulled", "--quiet")
    assert sorted(path.name for path in (tmp_path / "pulled").iterdir()) == sorted(shared_folder.FILES)
    same_codec(tmp_path / "pulled", runs["fsq"], options)

    first = repository.head  # a second push is a second commit; both can be pulled
    command("push", runs["q2d2-hex"], MODEL, "--quiet", *options)
    command("pull", MODEL, tmp_path / "new", "--quiet")
    same_codec(tmp_path / "new", runs["q2d2-hex"], options)
    command("pull", MODEL, tmp_path / "old", "--quiet", "--revision", first)
    same_codec(tmp_path / "old", runs["fsq"], options)


def test_a_private_model_needs_the_token(
    command: Any, hub: Any, runs: dict[str, str], options: list[str], tmp_path: Path, monkeypatch: Any
) -> None:
    command("push", runs["fsq"], MODEL, "--private", "--quiet", *options)
    assert hub.repositories["somebody/codec"].private
    command("pull", MODEL, tmp_path / "pulled", "--quiet")
    monkeypatch.delenv("HF_TOKEN")
    done = command("pull", MODEL, tmp_path / "other", "--quiet", code=2)
    assert "not there, or not public" in done.stderr
    assert "hf auth login" in done.stderr


def test_without_a_token_push_says_what_to_do(
    command: Any, hub: Any, runs: dict[str, str], options: list[str], monkeypatch: Any
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    done = command("push", runs["fsq"], MODEL, *options, code=2)
    assert "HF_TOKEN" in done.stderr
    assert not hub.requests


def test_a_wrong_token_is_told_and_not_shown(
    command: Any, hub: Any, runs: dict[str, str], options: list[str], monkeypatch: Any
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_another_secret")
    done = command("push", runs["fsq"], MODEL, "--quiet", *options, code=2)
    assert "does not accept the token" in done.stderr
    assert "hf_another_secret" not in done.output


def test_a_hub_out_of_order_is_told_without_the_token(
    command: Any, hub: Any, runs: dict[str, str], options: list[str], monkeypatch: Any
) -> None:
    hub.failing = 418
    done = command("push", runs["fsq"], MODEL, "--quiet", *options, code=2)
    assert "answers 418" in done.stderr
    assert "hf_abc" not in done.output


def test_without_a_network_pull_says_what_to_do(
    command: Any, tmp_path: Path, hub: Any, monkeypatch: Any
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    done = command("pull", MODEL, tmp_path / "pulled", code=2)
    assert "cannot be reached" in done.stderr
    assert "folder:PATH" in done.stderr
    assert not (tmp_path / "pulled").exists()


def test_another_kind_of_model_is_refused_before_its_weights_are_fetched(
    command: Any, hub: Any, shared: Path, tmp_path: Path
) -> None:
    hubs.upload(shared, Repository("somebody", "codec"), private=False, message="one", quiet=True)
    files = hub.repositories["somebody/codec"].commits[hub.repositories["somebody/codec"].head]
    files["config.json"] = b'{"architectures": ["BertModel"]}'
    done = command("pull", MODEL, tmp_path / "pulled", "--quiet", code=2)
    assert "not the configuration of a codecbench model" in done.stderr
    assert not [line for line in hub.requests if line.startswith("GET") and "safetensors" in line]
    del files["config.json"]
    done = command("pull", MODEL, tmp_path / "pulled", "--quiet", code=2)
    assert "a file of a shared model is missing" in done.stderr


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("backbone", {"name": "mdct-tiny", "width": 10**12}, "does not fit the tensors"),
        ("backbone", {"name": "mdct-tiny", "blocks": 10**6}, "does not fit the tensors"),
        ("backbone", {"name": "mdct-tiny", "width": 32}, "not of the shape"),
        ("backbone", {"name": "soundstream", "dilations": [1] * 999}, "does not fit the tensors"),
        ("backbone", {"name": "wavtokenizer-small", "lstm_layers": 999}, "does not fit the tensors"),
        ("backbone", {"name": "os.system"}, "unknown backbone"),
        ("backbone", {"nom": "mdct-tiny"}, "holds no codec"),
        ("quantizer", {"name": "vq", "options": {"codebook_size": 2**62}}, "holds no codec"),
        ("quantizer", {"name": "fsq", "options": {"levels": [[["deep"]]]}}, "not the configuration"),
        ("quantizer", {"name": "eval", "options": {}}, "unknown quantizer"),
        ("format", "codecbench.model/9", "not the configuration"),
        ("more", "x", "not the configuration"),
        ("digest", "sha256:0", "not the file that"),
        ("stages", 7, "holds no codec"),
    ],
)
def test_hostile_configurations_are_refused(
    shared: Path, tmp_path: Path, key: str, value: Any, message: str
) -> None:
    for name in shared_folder.FILES:
        (tmp_path / name).write_bytes((shared / name).read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(RunError, match=message):
        load_trained(tmp_path)


@pytest.mark.parametrize("name", ["soundstream", "wavtokenizer-small"])
def test_other_backbones_are_shared(name: str, tmp_path: Path) -> None:
    backbone = backbones.get(name)
    options = {"levels": [5, 5]}
    codec = build(backbone, lambda dim: quantizers.create("fsq", dim=dim, **options), seed=3)
    config = {
        "backbone": {"name": name, **dataclasses.asdict(backbone)},
        "quantizer": {"name": "fsq", "options": registry.plain_options("fsq", codec.quantizer.config)},
        "seed": 3,
    }
    tensor_files.write(tmp_path / "own", codec.state_dict(), {"config": json.dumps(config)})
    about = dict.fromkeys(("label", "study", "run_hash", "training_hash"), "x")
    values = {**config, **about, "sample_rate": backbone.sample_rate}
    shared_folder.write(tmp_path / "model", tmp_path / "own", "card", values)
    audio = 0.1 * torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(
        load_trained(tmp_path / "model").codec.reconstruct(audio), codec.eval().reconstruct(audio)
    )


def test_damaged_files_are_refused(command: Any, shared: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name in shared_folder.FILES:
        (other / name).write_bytes((shared / name).read_bytes())
    content = bytearray((other / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (other / WEIGHTS).write_bytes(content)
    done = command("pull", f"folder:{other}", tmp_path / "pulled", code=2)
    assert "damaged" in done.stderr
    assert not (tmp_path / "pulled").exists()
    (other / "config.json").write_bytes(b" " * (2 << 20))
    assert "too large" in command("pull", f"folder:{other}", tmp_path / "pulled", code=2).stderr


def test_folders_with_other_files_are_left_alone(
    command: Any, shared: Path, runs: dict[str, str], options: list[str], tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for arguments in (
        ("push", runs["fsq"], f"folder:{tmp_path}", *options),
        ("pull", f"folder:{shared}", tmp_path),
    ):
        assert "holds other files" in command(*arguments, code=2).stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    "text", ["hf://a", "hf://a/b/c", "hf://../b", "hf://a/b--c", "models/a", "folder:", "hf://a/-b"]
)
def test_places_that_cannot_be(text: str) -> None:
    with pytest.raises(PlaceError, match="hf://OWNER/NAME"):
        parse(text, "TARGET")
