"""Frozen parts, the start from released weights, and the warning about a quantizer loss that outweighs."""

from pathlib import Path

import pytest
import torch

import quantizers
from codec import backbones, model, weights
from codec.model import Codec
from experiments.studies import runs, study
from experiments.studies.runs import CorpusIdentity, Run
from experiments.studies.sections import Train
from experiments.training import distributed
from experiments.training.freezing import freeze
from experiments.training.replicas import Replicas
from experiments.training.starting_weights import load_backbone
from experiments.training.state import initial_state
from experiments.training.step import overweight, step

WARM = {"steps": 1}


def small(quantizer: str = "fsq") -> Codec:
    backbone = backbones.get("mdct-tiny", {"width": 16, "blocks": 1})
    return model.build(backbone, lambda dim: quantizers.create(quantizer, dim=dim, bits=10.0), seed=0)


def changed(codec: Codec, config: Train, steps: int) -> list[set[str]]:
    """The parts that each of the steps has changed."""
    state = initial_state(codec, config, seed=0, device=torch.device("cpu"))
    replicas = Replicas(distributed.single(torch.device("cpu")), state, config)
    audio = 0.1 * torch.randn(2, 4_000, generator=torch.Generator().manual_seed(0))
    changes = []
    for _ in range(steps):
        before = {name: value.clone() for name, value in codec.state_dict().items()}
        freeze(codec, config, state.step)
        step(state, replicas, audio, config)
        state.step += 1
        after = codec.state_dict().items()
        changes.append({name.split(".")[0] for name, now in after if not torch.equal(now, before[name])})
    return changes


@pytest.mark.parametrize("parts", [["encoder"], ["decoder"], ["encoder", "decoder"]])
def test_frozen_parts_stay_and_thaw(parts: list[str]) -> None:
    rest = {"encoder", "decoder"} - set(parts)
    config = Train(steps=3, warmup_steps=1, precision="fp32", freeze=parts)
    if rest:
        assert [got & {"encoder", "decoder"} for got in changed(small(), config, 2)] == [rest, rest]
    thawing = Train(steps=3, warmup_steps=1, precision="fp32", freeze=parts, freeze_steps=1)
    got = [part & {"encoder", "decoder"} for part in changed(small("fsq" if rest else "rvq"), thawing, 2)]
    assert got == [rest, {"encoder", "decoder"}]


def test_a_quantizer_loss_that_outweighs_is_told() -> None:
    heavy = {"loss": 3.0, "quantizer": 2.2}
    config = Train(warm_start=WARM)
    assert "73% of the loss" in overweight(heavy, config)
    assert overweight(heavy, Train()) == ""  # from new weights
    light = {"loss": 1.0, "quantizer": 0.1}
    assert overweight(light, config) == ""
    assert overweight({"loss": 1.0}, config) == ""  # none: no such term


def shipped(quantizer: str, folder: Path) -> Run:
    corpus = CorpusIdentity(spec="demo", name="demo", content_hash="", synthetic=True)
    loaded = study.load("soundstream", [f"quantizers=[{quantizer}]"])
    return runs.expand(loaded, corpus)[-1]


@pytest.mark.parametrize("quantizer", ["soundstream-rvq", "fsq"])
def test_a_run_starts_from_the_released_weights(
    quantizer: str, lyra_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("CODECBENCH_SOUNDSTREAM", str(lyra_files))
    run = shipped(quantizer, tmp_path)
    assert run.train.objective.objective().quantizer == 0.03
    codec = run.codec()
    load_backbone(codec, run, tmp_path)
    encoder, decoder = backbones.load_released("soundstream")
    for part, released in (("encoder", encoder), ("decoder", decoder)):
        own = codec.get_submodule(part).state_dict()
        assert all(torch.equal(value, own[name]) for name, value in released.state_dict().items())
    if quantizer == "soundstream-rvq":
        codes = weights.part(weights.obtain("soundstream"), "bottleneck")["codebooks"]
        assert torch.equal(codec.quantizer.codebooks[3].codes[0], codes[3])
