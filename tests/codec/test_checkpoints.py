"""Released checkpoints against what the released code computes.

golden/*.npz were computed by the public code of WavTokenizer (commit 5cf440d) and Q2D2 (commit 4e1801e),
built with the small sizes below and the weights of `released_state`. They hold its features, codes, quantized
frames, output of the decoder before the head, and audio, for `0.5 * draw("audio", 1, 4321)`.
"""

import logging
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import quantizers
from codec import backbones
from codec.checkpoints import CheckpointError, load_wavtokenizer, load_wavtokenizer_parts
from codec.weight_norm import fold_weight_norm

GOLDEN = Path(__file__).parent / "golden"
STRIDES, FILTERS, DIM, WIDTH, HIDDEN, BLOCKS = (5, 4, 2), 4, 16, 64, 96, 2
HOP = 40
CODES = 64
LEVELS = (9, 9, 7, 7)
ENCODER = "feature_extractor.encodec.encoder.model."
CODEBOOK = "feature_extractor.encodec.quantizer.vq.layers.0._codebook."
Q2D2 = "feature_extractor.encodec.quantizer.quantizer."


def released_layout(q2d2: bool) -> dict[str, tuple[int, ...]]:
    """Shapes by key, of a small model in the layout of the released checkpoints."""
    layout: dict[str, tuple[int, ...]] = {}

    def convolution(place: str, inputs: int, outputs: int, size: int) -> None:
        prefix = f"{ENCODER}{place}.conv.conv."
        layout[prefix + "bias"] = (outputs,)
        layout[prefix + "weight_g"] = (outputs, 1, 1)
        layout[prefix + "weight_v"] = (outputs, inputs, size)

    def linear(place: str, *shape: int) -> None:
        layout[place + ".weight"], layout[place + ".bias"] = shape, shape[:1]

    width = FILTERS
    convolution("0", 1, width, 7)
    for index, stride in enumerate(reversed(STRIDES)):
        convolution(f"{3 * index + 1}.block.1", width, width // 2, 3)
        convolution(f"{3 * index + 1}.block.3", width // 2, width, 1)
        convolution(f"{3 * index + 1}.shortcut", width, width, 1)
        convolution(f"{3 * index + 3}", width, 2 * width, 2 * stride)
        width *= 2
    for layer in range(2):
        for part in ("ih", "hh"):
            prefix = f"{ENCODER}{3 * len(STRIDES) + 1}.lstm."
            layout[f"{prefix}weight_{part}_l{layer}"] = (4 * width, width)
            layout[f"{prefix}bias_{part}_l{layer}"] = (4 * width,)
    convolution(f"{3 * len(STRIDES) + 3}", width, DIM, 7)
    if q2d2:
        linear(Q2D2 + "vq.project_in.0", len(LEVELS), DIM)
        linear(Q2D2 + "vq.project_out", DIM, len(LEVELS))
        linear(Q2D2 + "project_in", len(LEVELS), DIM)
        linear(Q2D2 + "project_out", DIM, len(LEVELS))
    else:
        layout |= {CODEBOOK + "embed": (CODES, DIM), CODEBOOK + "embed_avg": (CODES, DIM)}
        layout |= {CODEBOOK + "cluster_size": (CODES,), CODEBOOK + "inited": (1,)}
    linear("backbone.embed", WIDTH, DIM, 7)
    for index in (0, 1, 3, 4):
        for part in ("1", "2"):
            linear(f"backbone.pos_net.{index}.norm{part}", WIDTH)
            linear(f"backbone.pos_net.{index}.conv{part}", WIDTH, WIDTH, 3)
    linear("backbone.pos_net.2.norm", WIDTH)
    for part in ("q", "k", "v", "proj_out"):
        linear(f"backbone.pos_net.2.{part}", WIDTH, WIDTH, 1)
    linear("backbone.pos_net.5", WIDTH)
    norms = ["backbone.norm", *(f"backbone.convnext.{index}.norm" for index in range(BLOCKS))]
    layout |= {f"{norm}.{part}.weight": (4, WIDTH) for norm in norms for part in ("scale", "shift")}
    for index in range(BLOCKS):
        linear(f"backbone.convnext.{index}.dwconv", WIDTH, 1, 7)
        linear(f"backbone.convnext.{index}.pwconv1", HIDDEN, WIDTH)
        linear(f"backbone.convnext.{index}.pwconv2", WIDTH, HIDDEN)
        layout[f"backbone.convnext.{index}.gamma"] = (WIDTH,)
    linear("backbone.final_layer_norm", WIDTH)
    linear("head.out", 4 * HOP + 2, WIDTH)
    return layout


def released_state(q2d2: bool, draw) -> dict[str, torch.Tensor]:
    """Weights that keep signals at a magnitude of about 1."""
    state = {}
    for key, shape in released_layout(q2d2).items():
        value = draw(key, *shape)
        if key.endswith(("weight_g", "scale.weight")) or (key.endswith("weight") and len(shape) == 1):
            state[key] = 1 + 0.2 * value
        elif key.endswith(("bias", "shift.weight")):
            state[key] = 0.1 * value
        elif key.startswith(CODEBOOK):
            state[key] = value.abs() if key.endswith("size") else 0.5 * value
        else:
            state[key] = value * (3 / max(1, value[0].numel())) ** 0.5
    if not q2d2:
        state[CODEBOOK + "inited"] = torch.ones(1)
    state["head.istft.window"] = torch.hann_window(4 * HOP)
    return state


def golden(q2d2: bool) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{'q2d2' if q2d2 else 'wavtokenizer'}.npz") as values:
        return dict(values)


@pytest.fixture(params=[False, True], ids=["wavtokenizer", "q2d2"])
def q2d2(request) -> bool:
    return request.param


@pytest.fixture
def state(q2d2, draw) -> dict[str, torch.Tensor]:
    return released_state(q2d2, draw)


@pytest.fixture
def options(q2d2) -> dict:
    return {"quantizer": "q2d2-rhombic-released", "levels": LEVELS} if q2d2 else {}


@pytest.fixture
def checkpoint(state, tmp_path) -> Path:
    save_file(state, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.fixture
def audio(draw) -> torch.Tensor:
    return 0.5 * draw("audio", 1, 4321)


@pytest.mark.parametrize("fold", [True, False])
def test_computes_what_the_released_code_computes(checkpoint, options, audio, q2d2, fold) -> None:
    codec = load_wavtokenizer(checkpoint, **options, fold=fold)
    expected = {name: torch.from_numpy(value) for name, value in golden(q2d2).items()}
    with torch.no_grad():
        features = codec.features(audio)
        quantized = codec.quantizer(features)
        hidden = codec.decoder.hidden_frames(quantized.features)
        waveform = codec.decoder(quantized.features)
    assert torch.equal(quantized.codes[0, :, 0], expected["codes"].long())
    for name, value in (
        ("features", features),
        ("quantized", quantized.features),
        ("hidden", hidden),
        ("audio", waveform),
    ):
        torch.testing.assert_close(
            value[0], expected[name], atol=1e-5, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_codes_decode_to_the_released_audio(checkpoint, options, audio, q2d2) -> None:
    codec = load_wavtokenizer(checkpoint, **options)
    expected = golden(q2d2)
    codes = torch.from_numpy(expected["codes"]).long()[None, :, None]
    torch.testing.assert_close(codec.encode(audio), codes, atol=0, rtol=0)
    decoded = codec.decode(codes)
    torch.testing.assert_close(decoded[0], torch.from_numpy(expected["audio"]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(codec.reconstruct(audio), decoded[:, : audio.shape[1]], atol=1e-6, rtol=0)


def test_sizes_are_inferred(checkpoint, options, q2d2) -> None:
    codec = load_wavtokenizer(checkpoint, **options)
    assert (codec.hop, codec.sample_rate, codec.frame_rate) == (HOP, 24_000, 600.0)
    assert not codec.training
    assert codec.quantizer.codebook_sizes == ((145 * 85,) if q2d2 else (CODES,))


def test_folding_leaves_no_weight_normalisation_and_no_conditions(checkpoint, options, audio) -> None:
    kept = load_wavtokenizer(checkpoint, **options, fold=False)
    folded = load_wavtokenizer(checkpoint, **options)
    assert any("parametrizations" in key for key in kept.state_dict())
    assert not any("parametrizations" in key for key in folded.state_dict())
    assert kept.decoder.norm_in.weight.shape == (4, WIDTH)
    assert folded.decoder.norm_in.weight.shape == (WIDTH,)
    with torch.no_grad():
        before = kept.features(audio)
        after = fold_weight_norm(kept).features(audio)
    torch.testing.assert_close(before, after, atol=1e-5, rtol=0)


def test_a_lightning_checkpoint_with_unused_parts(state, options, tmp_path, audio, caplog) -> None:
    extra = {
        "feature_extractor.encodec.decoder.model.0.conv.conv.bias": torch.zeros(3),
        "multiperioddisc.discriminators.0.convs.0.bias": torch.zeros(5),
        "multiresddisc.discriminators.0.emb.weight": torch.zeros(4, 2),
        "dac.discriminators.0.conv_post.bias": torch.zeros(1),
        "dacdiscriminator.discriminator.discriminators.0.conv_post.bias": torch.zeros(1),
        "melspec_loss.mel_spec.mel_scale.fb": torch.zeros(2, 2),
    }
    content = {"state_dict": state | extra, "epoch": 3, "hyper_parameters": {"sample_rate": 24_000}}
    torch.save(content, tmp_path / "model.ckpt")
    save_file(state, tmp_path / "model.safetensors")
    with caplog.at_level(logging.INFO, logger="codec.checkpoints"):
        codec = load_wavtokenizer(tmp_path / "model.ckpt", **options)
    for word in ("second decoder", "multi-period", "multi-resolution", "DAC discriminator", "mel filters"):
        assert word in caplog.text
    assert "5 values" in caplog.text
    plain = load_wavtokenizer(tmp_path / "model.safetensors", **options)
    assert torch.equal(codec.encode(audio), plain.encode(audio))


def test_newer_and_folded_weight_normalisation_are_read_too(state, options, tmp_path, audio) -> None:
    newer, folded = {}, {}
    for key, value in state.items():
        if key.endswith("weight_v"):
            magnitude = state[key.replace("weight_v", "weight_g")]
            prefix = key.removesuffix("weight_v")
            newer[prefix + "parametrizations.weight.original0"] = magnitude
            newer[prefix + "parametrizations.weight.original1"] = value
            folded[prefix + "weight"] = magnitude * value / value.norm(dim=(1, 2), keepdim=True)
        elif not key.endswith("weight_g"):
            newer[key] = folded[key] = value
    features = []
    for number, weights in enumerate((state, newer, folded)):
        save_file(weights, tmp_path / f"{number}.safetensors")
        codec = load_wavtokenizer(tmp_path / f"{number}.safetensors", **options)
        with torch.no_grad():
            features.append(codec.features(audio))
    torch.testing.assert_close(features[1], features[0], atol=0, rtol=0)
    torch.testing.assert_close(features[2], features[0], atol=1e-5, rtol=0)


def released_config(q2d2: bool, strides: tuple[int, ...]) -> dict:
    features = {"dowmsamples": list(strides)}
    if q2d2:
        features |= {"vq_type": "rhombic", "codebook_dim": list(LEVELS)}
    model = {"sample_rate": 16_000, "feature_extractor": {"init_args": features}}
    return {"model": {"init_args": model}}


def test_the_configuration_tells_rate_and_grid(checkpoint, tmp_path, q2d2, audio) -> None:
    import yaml

    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(released_config(q2d2, STRIDES)))
    codec = load_wavtokenizer(checkpoint, path)
    assert codec.sample_rate == 16_000
    torch.testing.assert_close(
        codec.encode(audio)[0, :, 0], torch.from_numpy(golden(q2d2)["codes"]).long(), atol=0, rtol=0
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (released_config(False, (8, 5, 4, 2)), r"strides \[5, 4, 2\].*\[8, 5, 4, 2\]"),
        ({"model": {}}, "not the configuration"),
        (
            {"model": {"init_args": {"feature_extractor": {"init_args": {"dowmsamples": "x"}}}}},
            "not the configuration",
        ),
        ("missing.yaml", r"missing\.yaml cannot be read"),
    ],
)
def test_wrong_configurations(checkpoint, options, config, message) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_wavtokenizer(checkpoint, config, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone.surprise": torch.zeros(1)}, r"no released model has: backbone\.surprise"),
        ({"head.out.bias": None}, r"lacks head\.out\.bias"),
        ({ENCODER + "0.conv.conv.weight_v": None}, r"lacks .*0\.conv\.conv\.weight_v"),
        ({"head.istft.window": torch.ones(4 * HOP)}, "Hann"),
        ({"head.out.bias": torch.zeros(4 * 60 + 2)}, "40 samples per frame, but the head makes 60"),
        ({"backbone.embed.bias": torch.zeros(7)}, "does not fit VocosDecoder"),
    ],
)
def test_wrong_keys_are_named(state, options, tmp_path, change, message) -> None:
    weights = {key: value for key, value in (state | change).items() if value is not None}
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=message) as caught:
        load_wavtokenizer(tmp_path / "model.safetensors", **options)
    assert "model.safetensors" in str(caught.value)


def test_a_q2d2_model_needs_its_grid(tmp_path, draw) -> None:
    path = tmp_path / "model.safetensors"
    save_file(released_state(True, draw), path)
    with pytest.raises(CheckpointError, match="q2d2-rhombic-released"):
        load_wavtokenizer(path)
    with pytest.raises(CheckpointError, match="4 channels"):
        load_wavtokenizer(path, quantizer="q2d2-hex-released", levels=(7, 7))
    with pytest.raises(quantizers.QuantizerError, match="unknown quantizer"):
        load_wavtokenizer(path, quantizer="q2d2-hexagon", levels=LEVELS)


def test_a_codebook_takes_no_grid(tmp_path, draw) -> None:
    path = tmp_path / "model.safetensors"
    save_file(released_state(False, draw), path)
    with pytest.raises(CheckpointError, match="holds a codebook"):
        load_wavtokenizer(path, levels=LEVELS)


class Unsafe:
    pass


def test_unreadable_files(tmp_path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        load_wavtokenizer(tmp_path / "none.ckpt")
    (tmp_path / "text.ckpt").write_text("hello")
    (tmp_path / "text.safetensors").write_text("hello")
    (tmp_path / "empty.ckpt").write_bytes(b"")
    torch.save({"state_dict": {"x": Unsafe()}}, tmp_path / "unsafe.ckpt")
    torch.save([1, 2], tmp_path / "list.ckpt")
    for name, message in (
        ("text.ckpt", "cannot be read"),
        ("empty.ckpt", "cannot be read"),
        ("text.safetensors", "not a safetensors file"),
        ("unsafe.ckpt", "an object of .*Unsafe"),
        ("list.ckpt", "no state dictionary"),
    ):
        with pytest.raises(CheckpointError, match=rf"{re.escape(name)}.*{message}"):
            load_wavtokenizer(tmp_path / name)


def test_a_codebook_keeps_its_statistics(tmp_path, draw) -> None:
    state = released_state(False, draw)
    save_file(state, tmp_path / "model.safetensors")
    codebooks = load_wavtokenizer(tmp_path / "model.safetensors").quantizer.codebooks
    assert codebooks.started
    assert torch.equal(codebooks.counts[0], state[CODEBOOK + "cluster_size"])
    assert torch.equal(codebooks.sums[0], state[CODEBOOK + "embed_avg"])


@pytest.mark.parametrize("conditions", [0, 4])
def test_parts_to_train_on_are_those_of_the_codec(checkpoint, options, audio, conditions) -> None:
    """Of a Q2D2 model, too, whose grid is not told: its quantizer is replaced."""
    sizes = {"strides": STRIDES, "encoder_width": FILTERS, "dim": DIM, "width": WIDTH, "hidden": HIDDEN}
    sizes |= {"blocks": BLOCKS, "conditions": conditions}
    backbone = backbones.get("wavtokenizer-small", sizes)
    encoder, decoder = load_wavtokenizer_parts(checkpoint, backbone)
    for part, built in zip((encoder, decoder), backbone.build(), strict=True):
        built.load_state_dict(part.state_dict())
        part.eval()
    codec = load_wavtokenizer(checkpoint, **options)
    with torch.no_grad():
        features = encoder(audio)
        torch.testing.assert_close(features, codec.encoder(audio))
        torch.testing.assert_close(decoder(features), codec.decoder(features))
    with pytest.raises(
        CheckpointError, match=r"sizes of the backbone.* options \{dim: 16, strides: \[5, 4, 2\]\}"
    ):
        other = backbones.get("wavtokenizer-small", {**sizes, "dim": 8, "strides": (5, 4, 4)})
        load_wavtokenizer_parts(checkpoint, other)
