"""Checkpoints in the layouts in which people pass them on: all load, or are refused with what to do.

Every layout holds the same small model, whose codes and audio must be those of the plain state dictionary.
"""

import argparse
import logging
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from codec import backbones
from codec.checkpoints import CheckpointError, load_wavtokenizer, load_wavtokenizer_parts
from tests.codec.test_checkpoints import (
    BLOCKS,
    CODEBOOK,
    DIM,
    FILTERS,
    HIDDEN,
    LEVELS,
    STRIDES,
    WIDTH,
    released_config,
    released_state,
)

State = dict[str, torch.Tensor]


@pytest.fixture
def state(draw: Any) -> State:
    return released_state(False, draw)


@pytest.fixture
def audio(draw: Any) -> torch.Tensor:
    return 0.5 * draw("audio", 1, 4321)


@pytest.fixture
def expected(state: State, audio: torch.Tensor, tmp_path: Path) -> torch.Tensor:
    """Audio of the plain state dictionary."""
    save_file(state, tmp_path / "plain.safetensors")
    return load_wavtokenizer(tmp_path / "plain.safetensors").reconstruct(audio)


def under(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


def lightning(state: State) -> dict[str, Any]:
    """What a Lightning checkpoint of version 1.8 holds beside the model."""
    discriminators = {"multiperioddisc.discriminators.0.convs.0.bias": torch.zeros(5)}
    moments = {0: {"step": torch.tensor(7.0), "exp_avg": torch.zeros(3), "exp_avg_sq": torch.zeros(3)}}
    best = {"best_model_score": np.float64(1.25), "current_score": np.float32(1.5), "stopped": np.int64(3)}
    return {
        "epoch": 3,
        "global_step": 80_000,
        "pytorch-lightning_version": "1.8.6",
        "state_dict": OrderedDict(state | discriminators | {"melspec_loss.fb": torch.zeros(2)}),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"current": {"ready": 3}}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'val_loss'}": best | {"best_k_models": {"a.ckpt": 1.0}}},
        "optimizer_states": [{"state": moments, "param_groups": [{"lr": 8e-5, "betas": (0.9, 0.999)}]}],
        "lr_schedulers": [{"base_lrs": [8e-5], "_step_count": 1}],
        "hyper_parameters": {"sample_rate": 24_000, "initial_learning_rate": 8e-5, "resume": True},
    }


def half(state: State, dtype: torch.dtype) -> State:
    return {key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()}


def spread(state: State) -> State:
    """Other weights: an average, or another model, must not be taken for the model."""
    return {key: value + 1 for key, value in state.items()}


LAYOUTS = {
    "lightning": lightning,
    "plain": dict,
    "module": lambda state: {"state_dict": under("module.", state)},
    "model": lambda state: {"state_dict": under("model.", state)},
    "compiled": lambda state: {"state_dict": under("_orig_mod.", state)},
    "compiled in parallel": lambda state: under("module._orig_mod.", state),
    "compiled part": lambda state: {
        key.replace("feature_extractor.", "feature_extractor._orig_mod."): value
        for key, value in state.items()
    },
    "generator": lambda state: {
        "state_dict": under("generator.", state)
        | {"discriminator.convs.0.bias": torch.zeros(5), "multiresddisc.emb.weight": torch.zeros(2)}
    },
    "under model": lambda state: {"model": state, "step": 3},
    "under generator": lambda state: {"generator": state, "discriminator": {"x": torch.zeros(1)}},
    "under model and state_dict": lambda state: {"model": {"state_dict": under("module.", state)}},
    "with an average": lambda state: {"state_dict": state | under("ema_model.", spread(state))},
    "model with an average": lambda state: {
        "state_dict": under("model.", state)
        | under("ema.module.", spread(state))
        | {"ema.decay": torch.tensor(0.999)}
    },
    "an average alone": lambda state: {"state_dict": under("ema_model.module.", state)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_one_model_are_one_codec(
    layout: str, state: State, audio: torch.Tensor, expected: torch.Tensor, tmp_path: Path
) -> None:
    torch.save(LAYOUTS[layout](state), tmp_path / "model.ckpt")
    codec = load_wavtokenizer(tmp_path / "model.ckpt")
    torch.testing.assert_close(codec.reconstruct(audio), expected, rtol=0, atol=0)


def test_older_files_of_torch(
    state: State, audio: torch.Tensor, expected: torch.Tensor, tmp_path: Path
) -> None:
    torch.save(lightning(state), tmp_path / "model.ckpt", _use_new_zipfile_serialization=False)
    codec = load_wavtokenizer(tmp_path / "model.ckpt")
    torch.testing.assert_close(codec.reconstruct(audio), expected, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_copies_in_other_precisions(dtype: torch.dtype, state: State, tmp_path: Path) -> None:
    torch.save({"state_dict": half(state, dtype)}, tmp_path / "model.ckpt")
    codec = load_wavtokenizer(tmp_path / "model.ckpt")
    codes = state[CODEBOOK + "embed"].to(dtype).float()
    torch.testing.assert_close(codec.quantizer.codebook_vectors[0], codes, rtol=0, atol=0)
    assert {value.dtype for value in codec.parameters()} == {torch.float32}


def test_what_overflowed_in_half_precision_is_named(state: State, tmp_path: Path) -> None:
    state["backbone.embed.bias"][0] = 1e6
    torch.save(half(state, torch.float16), tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match=r"model\.ckpt: backbone\.embed\.bias has values .* not finite"):
        load_wavtokenizer(tmp_path / "model.ckpt")


def test_what_is_left_out_is_logged(state: State, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = under("generator.", state) | {"discriminator.convs.0.bias": torch.zeros(5)}
    torch.save(kept | under("ema_model.", {"head.out.bias": torch.zeros(7)}), tmp_path / "model.ckpt")
    with caplog.at_level(logging.INFO, logger="codec"):
        load_wavtokenizer(tmp_path / "model.ckpt")
    assert "took the prefix 'generator.' off the keys" in caplog.text
    assert "left out an average of the weights (7 values)" in caplog.text
    assert "left out discriminators (5 values)" in caplog.text


def test_a_q2d2_file_with_its_yaml(draw: Any, audio: torch.Tensor, tmp_path: Path) -> None:
    torch.save(lightning(under("module.", released_state(True, draw))), tmp_path / "q2d2.ckpt")
    config = released_config(True, STRIDES)
    codec = load_wavtokenizer(tmp_path / "q2d2.ckpt", config)
    assert codec.quantizer.config.levels == LEVELS
    assert codec.encode(audio).shape[1:] == (-(-audio.shape[1] // 40), 1)


def test_parts_to_train_on_come_from_any_layout(state: State, audio: torch.Tensor, tmp_path: Path) -> None:
    save_file(state, tmp_path / "plain.safetensors")
    torch.save(lightning(under("module.", state)), tmp_path / "model.ckpt")
    sizes = {"strides": STRIDES, "encoder_width": FILTERS, "dim": DIM, "width": WIDTH, "hidden": HIDDEN}
    backbone = backbones.get("wavtokenizer-small", {**sizes, "blocks": BLOCKS})
    parts = [
        load_wavtokenizer_parts(tmp_path / name, backbone) for name in ("plain.safetensors", "model.ckpt")
    ]
    for plain, wrapped in zip(*parts, strict=True):
        assert all(torch.equal(value, wrapped.state_dict()[key]) for key, value in plain.state_dict().items())


class Released:
    """A class of the code that wrote a checkpoint."""


class Hostile:
    """Makes a folder as it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Released(), r"tests\.codec\.test_checkpoint_files\.Released"),
        (argparse.Namespace(lr=1), r"argparse\.Namespace"),
        (Path("a"), r"pathlib\.PosixPath"),
        (np.zeros(3, dtype=object), r"numpy\._core\.multiarray\._reconstruct"),
    ],
)
def test_other_classes_are_refused_by_name(value: Any, name: str, state: State, tmp_path: Path) -> None:
    torch.save({"state_dict": state, "hyper_parameters": {"config": value}}, tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match=rf"model\.ckpt .* an object of {name},") as caught:
        load_wavtokenizer(tmp_path / "model.ckpt")
    said = str(caught.value)
    assert "\x1b" not in said
    assert "weights_only" not in said


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_is_executed(zipped: bool, state: State, tmp_path: Path) -> None:
    content = {"state_dict": state, "callbacks": Hostile(tmp_path / "made")}
    torch.save(content, tmp_path / "model.ckpt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=rf"an object of {os.mkdir.__module__}\.mkdir"):
        load_wavtokenizer(tmp_path / "model.ckpt")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "no state dictionary: it is a list"),
        ({}, "no state dictionary: it is a dict"),
        ({"epoch": 3, "weight": 4}, "no state dictionary: it holds 'epoch', 'weight'"),
        ({"model.x": torch.zeros(1)}, r"lacks .*it is not a WavTokenizer or Q2D2 checkpoint"),
    ],
)
def test_files_without_such_a_model(content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match=message):
        load_wavtokenizer(tmp_path / "model.ckpt")


def test_a_damaged_file(state: State, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "whole.ckpt")
    (tmp_path / "cut.ckpt").write_bytes((tmp_path / "whole.ckpt").read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"cut\.ckpt cannot be read as plain weights .*get it again"):
        load_wavtokenizer(tmp_path / "cut.ckpt")
