"""Training against discriminators, and what goes with it: averages, accumulation, precision, bad batches."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

import quantizers
from codec import backbones, model
from codec.model import Codec
from experiments import data
from experiments.common import tensor_files
from experiments.data.dataset import Crops
from experiments.studies.sections import Train
from experiments.training import distributed, validation
from experiments.training.checkpoint import Checkpoint, CheckpointError
from experiments.training.loop import train
from experiments.training.observer import Diverged, Interrupted, Observer, Trained
from quantizers.checks import conformance

WAVTOKENIZER = backbones.WavTokenizerBackbone(
    strides=(5, 4, 2), encoder_width=4, lstm_layers=1, dim=16, width=32, hidden=48, blocks=1
)
SMALL = {"discriminator_width": 0.03}
BASE = {
    "steps": 4,
    "batch_size": 2,
    "crop_seconds": 0.1,
    "warmup_steps": 0,
    "log_every": 1,
    "validate_every": 100,
    "checkpoint_every": 100,
    "precision": "fp32",
    "objective": {"name": "wavtokenizer", "options": SMALL},
}


class Watcher(Observer):
    """Remembers what a training tells; asks it to stop after `stop_after` steps."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.logged: dict[int, dict[str, float]] = {}
        self.warnings: list[tuple[int, str, str]] = []
        self.text = ""
        self.step, self.stop_after = 0, stop_after

    def restored(self, step: int) -> None:
        self.step = step

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.logged.setdefault(step, {}).update(values)

    def warning(self, step: int, name: str, text: str) -> None:
        self.warnings.append((step, name, text))

    def progress(self, step: int, steps: int, text: str) -> None:
        self.step, self.text = step, text

    def should_stop(self) -> bool:
        return self.stop_after is not None and self.step >= self.stop_after


@pytest.fixture(scope="module")
def shards(speech: Path) -> data.Shards:
    torch.set_num_threads(1)
    return data.prepare(f"manifest:{speech}", sample_rate=24_000)


def build(quantizer: str = "vq", backbone: backbones.Backbone = WAVTOKENIZER) -> Codec:
    return model.build(backbone, lambda dim: conformance.builder(quantizer, dim)(), seed=0)


def go(codec: Codec, shards: data.Shards, folder: Path, watcher: Observer, **changes: object) -> Trained:
    config = Train.model_validate({**BASE, **changes})
    return train(
        codec,
        config,
        train_split=shards.split("train"),
        validation_split=shards.split("validation"),
        seed=0,
        fabric=distributed.single(torch.device("cpu")),
        checkpoint=Checkpoint(folder / "state.safetensors", config.model_dump(mode="json")),
        observers=[watcher],
    )


def state_after(done: int, shards: data.Shards, folder: Path, codec: Codec, **changes: object) -> dict:
    with pytest.raises(Interrupted):
        go(codec, shards, folder, Watcher(stop_after=done), **changes)
    return tensor_files.read(folder / "state.safetensors")[0]


def different(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]


def test_every_declared_parameter_of_both_sides_moves(shards: data.Shards, tmp_path: Path) -> None:
    codec = build()
    declared = {f"model/{name}" for name, _ in codec.named_parameters()}
    changes = {"weight_decay": 0.0, "learning_rate": 1e-2, "discriminator_learning_rate": 1e-2}
    before = state_after(0, shards, tmp_path, codec, **changes)
    after = state_after(2, shards, tmp_path, codec, **changes)
    declared |= {name for name in before if name.startswith("adversary/")}
    assert sum(name.startswith("adversary/families.dac") for name in declared) > 50
    assert [name for name in sorted(declared) if torch.equal(before[name], after[name])] == []


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_stopped_adversarial_training_goes_on_bit_for_bit(
    accumulate: int, shards: data.Shards, tmp_path: Path
) -> None:
    """Weights of both sides, their optimizers, the average, and the random numbers of dropout."""
    changes = {"ema_decay": 0.9, "accumulate": accumulate}
    changes["objective"] = {"name": "vocos", "options": {**SMALL, "discriminator_start": 1}}
    whole, parts = build(), build()
    go(whole, shards, tmp_path / "whole", Watcher(), **changes)
    state_after(2, shards, tmp_path / "parts", parts, **changes)
    torch.manual_seed(99)  # what happens between the sittings must not matter
    again = build()
    watcher = Watcher()
    go(again, shards, tmp_path / "parts", watcher, **changes)
    assert min(watcher.logged) == 3
    assert different(whole.state_dict(), again.state_dict()) == []
    states = [tensor_files.read(tmp_path / p / "state.safetensors")[0] for p in ("whole", "parts")]
    assert different(*states) == []
    assert any(name.startswith("average/") for name in states[0])


@pytest.mark.slow
def test_all_bottlenecks_meet_the_same_codec_adversary_and_crops(shards: data.Shards, tmp_path: Path) -> None:
    """Whatever a quantizer draws from the random generator, when it is built and when it starts."""
    backbone = backbones.MDCTBackbone(sample_rate=24_000, width=16, blocks=1)
    small = {"name": "vocos", "options": {**SMALL, "log_mel": 1.0}}
    changes = {"steps": 2, "crop_seconds": 0.05, "objective": small}
    first: dict[str, torch.Tensor] = {}
    crops: list[torch.Tensor] = []
    for name in quantizers.available():
        codec, heard = build(name, backbone), []
        codec.encoder.register_forward_pre_hook(lambda _, inputs, h=heard: h.append(inputs[0].clone()))
        start = state_after(0, shards, tmp_path / name, codec, **changes)
        go(codec, shards, tmp_path / name, Observer(), **changes)
        parts = ("model/encoder", "model/decoder", "adversary/")
        shared = {key: value for key, value in start.items() if key.startswith(parts)}
        first, crops = first or shared, crops or heard
        assert different(shared, first) == [], name
        assert len(heard) == 3  # the last is the validation's
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(heard, crops, strict=True)), name
    assert any(name.startswith("adversary/") for name in first)


@pytest.fixture
def broken_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The training's batch of step 1 is not finite."""
    batch = Crops.batch

    def spoilt(self: Crops, step: int) -> np.ndarray:
        return batch(self, step) * np.float32("nan" if step == 1 and self.batch_size == 2 else 1)

    monkeypatch.setattr(Crops, "batch", spoilt)


@pytest.mark.usefixtures("broken_batch")
def test_a_batch_that_is_not_finite_is_named_skipped_and_counted(shards: data.Shards, tmp_path: Path) -> None:
    codec, watcher = build("vq"), Watcher()
    trained = go(codec, shards, tmp_path, watcher, ema_decay=0.5)
    assert trained.skipped == 1
    ((step, name, text),) = (warning for warning in watcher.warnings if warning[1] == "skipped_batch")
    clips, starts = Crops(shards.split("train"), samples=2400, batch_size=2, seed=0).positions(1)
    assert (step, name) == (1, "skipped_batch")
    for clip, start in zip(clips, starts, strict=True):
        assert f"{shards.split('train').names[clip]} from {start / 24_000:.3f} s" in text
    assert watcher.logged[1]["train/skipped_batches"] == 1
    state = tensor_files.read(tmp_path / "state.safetensors")[0]
    assert [key for key, value in state.items() if not value.float().isfinite().all()] == []


@pytest.mark.usefixtures("broken_batch")
def test_more_bad_batches_than_allowed_end_the_run(shards: data.Shards, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="1 steps in a row up to step 1"):
        go(build("fsq"), shards, tmp_path, Watcher(), non_finite_limit=1)


def test_a_collapsed_codebook_is_a_warning(shards: data.Shards, tmp_path: Path) -> None:
    codec, watcher = build("vq"), Watcher()
    with torch.no_grad():
        for name, parameter in codec.encoder.named_parameters():
            parameter.mul_(0.0 if name.endswith("original0") else 1.0)  # magnitudes: all frames are alike
    go(codec, shards, tmp_path, watcher, learning_rate=1e-12, validate_every=2)
    assert watcher.logged[2]["validation/collapsed_codebooks"] == 1
    assert watcher.logged[2]["validation/codebook_use"] < 0.1
    (found,) = watcher.warnings
    assert found[:2] == (2, "codebook_collapse")
    assert "1 of 1 codebooks have collapsed" in found[2]


def test_channels_that_saturate_are_a_warning(shards: data.Shards, tmp_path: Path) -> None:
    codec, watcher = build("fsq"), Watcher()
    with torch.no_grad():
        codec.quantizer.project_in.bias[:2] += 5.0
    go(codec, shards, tmp_path, watcher, learning_rate=1e-12, validate_every=1)
    logged = watcher.logged[1]
    assert logged["validation/saturated_channels"] == 2
    channels = len(codec.quantizer.channel_ranges.levels)
    assert logged["validation/saturation"] == pytest.approx(2 / channels, abs=0.05)
    assert logged["validation/effective_dimension_quantized"] > 0.99
    assert 0.99 < logged["validation/effective_dimension"] < codec.quantizer.dim + 0.01
    saturated = [warning for warning in watcher.warnings if warning[1] == "saturated_channels"]
    ((step, _, text),) = saturated  # once, not at every validation
    assert step == 1
    assert f"2 of {channels} channels are saturated" in text


def test_use_of_codebooks() -> None:
    torch.manual_seed(0)
    quantizer = quantizers.create("fsq", dim=4, levels=(5, 5))
    codes = quantizer(torch.randn(8, 400, 4)).codes
    assert all(share > 0.5 for share in validation.codebook_use(quantizer, codes))
    assert validation.codebook_use(quantizer, torch.zeros_like(codes)) == [0.0, 0.0]
    assert validation.codebook_use(quantizers.create("none", dim=4), torch.zeros(2, 3, 0).long()) == []


def test_accumulated_parts_are_one_step(shards: data.Shards, tmp_path: Path) -> None:
    """Gradients and codebooks move once, by all parts."""
    backbone = backbones.MDCTBackbone(sample_rate=24_000, width=16, blocks=1)
    spectral = {"objective": "spectral", "optimizer": "adamw", "learning_rate": 1e-3, "batch_size": 4}
    found = []
    for accumulate in (1, 2):
        codec = model.build(
            backbone, lambda dim: quantizers.create("vq", dim=dim, codebook_size=8, revive_below=0.0), seed=0
        )
        with torch.no_grad():
            codec.quantizer.get_buffer("codebooks.started").fill_(True)
            codec.quantizer.get_buffer("codebooks.counts").fill_(1.0)
            codec.quantizer.get_buffer("codebooks.sums").copy_(codec.quantizer.get_buffer("codebooks.codes"))
        watcher = Watcher()
        go(codec, shards, tmp_path / str(accumulate), watcher, accumulate=accumulate, **spectral)
        found.append((codec.state_dict(), watcher.logged[4]["train/loss"]))
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-4)
    for name, value in found[0][0].items():
        torch.testing.assert_close(found[1][0][name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_the_average_of_weights_is_what_is_kept(shards: data.Shards, tmp_path: Path) -> None:
    codec = build("fsq")
    seen: list[dict[str, torch.Tensor]] = []

    class Snapshots(Observer):
        def progress(self, step: int, steps: int, text: str) -> None:
            seen.append({name: value.clone() for name, value in codec.state_dict().items()})

    average = {name: value.clone() for name, value in codec.state_dict().items()}
    go(codec, shards, tmp_path, Snapshots(), ema_decay=0.25, objective="spectral")
    for step, weights in enumerate(seen, 1):
        decay = min(0.25, (1 + step) / (10 + step))
        for name, value in weights.items():
            if value.is_floating_point():
                average[name] = decay * average[name] + (1 - decay) * value
    for name, value in codec.state_dict().items():
        torch.testing.assert_close(value, average[name], msg=name)
    assert different(codec.state_dict(), seen[-1]) != []


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_and_quantizes_in_single(
    precision: str, shards: data.Shards, tmp_path: Path
) -> None:
    codec, watcher, seen = build("vq"), Watcher(), set()
    quantize = codec.quantizer.quantize

    def watched(features: torch.Tensor) -> quantizers.Quantized:
        result = quantize(features)
        seen.update({features.dtype, result.features.dtype})
        return result

    codec.quantizer.quantize = watched
    before = {name: value.clone() for name, value in codec.state_dict().items()}
    steps = {"bf16": 4, "fp16": 12}[precision]
    objective = {"bf16": BASE["objective"], "fp16": "spectral"}[precision]
    trained = go(codec, shards, tmp_path, watcher, precision=precision, steps=steps, objective=objective)
    assert trained.skipped <= (steps // 2 if precision == "fp16" else 0)  # its scale is found by trying
    assert seen == {torch.float32}
    assert all(np.isfinite(value) for value in watcher.logged[steps].values())
    assert ("train/loss_scale" in watcher.logged[steps]) == (precision == "fp16")
    assert {value.dtype for value in codec.parameters()} == {torch.float32}
    assert len(different(before, codec.state_dict())) > 20


def test_progress_shows_losses_and_speed(shards: data.Shards, tmp_path: Path) -> None:
    watcher = Watcher()
    go(build("fsq"), shards, tmp_path, watcher)
    for part in ("loss ", "log_mel ", "discriminator/dac ", "steps/s", "s of audio/s"):
        assert part in watcher.text


def test_a_state_of_another_configuration_is_refused_with_the_difference(
    shards: data.Shards, tmp_path: Path
) -> None:
    state_after(1, shards, tmp_path, build("fsq"))
    message = (
        r"belongs to another training: learning_rate is 0.0002 in the file and 0.5 now; "
        r"betas is \[0.9, 0.999\] in the file and \[0.1, 0.2\] now. Remedy"
    )
    with pytest.raises(CheckpointError, match=message):
        go(build("fsq"), shards, tmp_path, Observer(), learning_rate=0.5, betas=[0.1, 0.2])


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # the compiler looks at it
@pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex:UserWarning")
def test_compiled_blocks_learn_the_same(shards: data.Shards, tmp_path: Path) -> None:
    backbone = backbones.MDCTBackbone(sample_rate=24_000, width=16, blocks=1)
    losses = []
    for compiled in (False, True):
        codec, watcher = build("fsq", backbone), Watcher()
        go(codec, shards, tmp_path / str(compiled), watcher, compile=compiled, objective="spectral", steps=3)
        assert codec.encoder._compiled_call_impl is None
        losses.append([watcher.logged[step]["train/loss"] for step in (1, 2, 3)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
