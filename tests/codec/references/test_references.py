"""Reference codecs: rates that are true, audio of the same length, mistakes and missing parts explained."""

import io
import math
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from codec import references
from codec.references.ogg import opus_payload_bits, packet_sizes


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    """Two seconds at 16 kHz of harmonics with a moving pitch and loudness."""
    time = np.arange(32_000) / 16_000
    phase = 2 * np.pi * np.cumsum(120 + 40 * np.sin(2 * np.pi * 2 * time)) / 16_000
    harmonics = sum(np.sin(k * phase) / k for k in range(1, 20))
    return (0.1 * harmonics * (1 + np.sin(2 * np.pi * 3 * time))).astype(np.float32)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 24_000])
def test_opus_keeps_length_rate_and_place(voice: np.ndarray, rate: int) -> None:
    clip = voice[:rate]
    decoded = references.create("opus", {"bitrate": 32_000}).reconstruct(clip, rate)
    assert decoded.audio.shape == clip.shape
    assert decoded.audio.dtype == np.float32
    lags = [float(np.dot(np.roll(decoded.audio, -lag), clip)) for lag in range(-40, 41)]
    assert abs(int(np.argmax(lags)) - 40) <= 1


def test_opus_spends_what_it_is_told_and_more_bits_help(voice: np.ndarray) -> None:
    errors = []
    for bitrate in (8_000, 16_000, 64_000):
        decoded = references.create("opus", {"bitrate": bitrate}).reconstruct(voice, 16_000)
        assert decoded.bits is not None
        assert decoded.bits / 2 == pytest.approx(bitrate, rel=0.25)
        errors.append(float(np.mean((decoded.audio - voice) ** 2)))
    assert errors == sorted(errors, reverse=True)


def test_payload_is_less_than_the_file_and_the_packets_fill_it(voice: np.ndarray) -> None:
    stream = io.BytesIO()
    soundfile.write(stream, voice, 16_000, format="OGG", subtype="OPUS")
    data = stream.getvalue()
    sizes = list(packet_sizes(data))
    assert data[28 : 28 + 8] == b"OpusHead"
    assert sizes[0] == 19  # OpusHead of a mono file
    assert 100 <= len(sizes) - 2 <= 102  # 20 ms a packet, and the codec's delay
    assert 8 * sum(sizes[2:]) == opus_payload_bits(data) < 8 * len(data)


def test_packets_over_several_segments_and_pages() -> None:
    def page(table: bytes) -> bytes:
        return b"OggS" + bytes(22) + bytes([len(table)]) + table + bytes(sum(table))

    data = page(bytes([10, 255, 255])) + page(bytes([255, 0, 7]))
    assert list(packet_sizes(data)) == [10, 3 * 255, 7]
    for broken in (data[:-1], data[:40], b"RIFF" + data, page(bytes([255]))):
        with pytest.raises(ValueError):
            list(packet_sizes(broken))


@pytest.mark.parametrize("samples", [0, 1, 100])
@pytest.mark.parametrize("name", ["ground-truth", "resample", "pcm", "opus"])
def test_the_shortest_clips(name: str, samples: int) -> None:
    decoded = references.create(name).reconstruct(np.zeros(samples, np.float32), 24_000)
    assert decoded.audio.shape == (samples,)


def test_controls_do_what_they_say(voice: np.ndarray) -> None:
    truth = references.create("ground-truth").reconstruct(voice, 16_000)
    assert np.array_equal(truth.audio, voice)
    assert truth.bits is None
    coarse = references.create("pcm", {"bits": 4}).reconstruct(voice, 16_000)
    assert coarse.bits == 4 * len(voice)
    assert len(np.unique(coarse.audio)) <= 16
    assert np.abs(coarse.audio - voice).max() <= 1 / 16 + 1e-6
    same = references.create("resample").reconstruct(voice, 16_000)
    assert np.array_equal(same.audio, voice)
    narrow = references.create("resample", {"rate": 4_000}).reconstruct(voice, 16_000)
    spectrum = np.abs(np.fft.rfft(narrow.audio)) ** 2
    above = int(len(spectrum) * 2_200 / 8_000)
    assert spectrum[above:].sum() < 1e-4 * spectrum.sum()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("opsu", "did you mean 'opus'"),
        ("opus:bitrat=9000", "did you mean 'bitrate'"),
        ("opus:500", "6000 to 256000"),
        ("opus:", "KEY=VALUE"),
        ("pcm:1", "2 to 24"),
        ("ground-truth:4", "KEY=VALUE"),
        ("codec2:9600", "700C"),
        ("mimi:0", "number of codebooks"),
        ("lyra:3000.5", "bitrate must be an integer, not 3000.5"),
        ("lyra:9400", "published are 3200, 6000 and 9200"),
        ("resample:12.5", "rate must be an integer, not 12.5"),
    ],
)
def test_mistakes_name_the_remedy(text: str, words: str) -> None:
    with pytest.raises(references.ReferenceCodecError, match=words):
        references.create(*references.parse(text))


def test_names_with_options_are_read() -> None:
    assert references.parse("opus:24000") == ("opus", {"bitrate": 24_000})
    assert references.parse("pcm:bits=6") == ("pcm", {"bits": 6})
    assert references.parse("q2d2:a.ckpt,quantizer=q2d2-hex-released,levels=9:9:7:7") == (
        "q2d2",
        {"checkpoint": "a.ckpt", "quantizer": "q2d2-hex-released", "levels": [9, 9, 7, 7]},
    )
    assert references.create(*references.parse("opus:6000")).label == "opus 6 kbit/s"
    assert {"opus", "encodec", "ground-truth", "wavtokenizer"} <= set(references.available())


@pytest.mark.parametrize("name", ["wavtokenizer", "q2d2"])
def test_absent_checkpoints_say_where_to_get_them(name: str) -> None:
    reference = references.create(name, {"checkpoint": "/nowhere/model.ckpt"})
    with pytest.raises(references.ReferenceUnavailable, match=r"weights not found: .*/nowhere/model\.ckpt"):
        reference.prepare()


def test_a_checkpoint_is_known_by_what_it_holds(tmp_path: Path) -> None:
    checkpoint, config = tmp_path / "model.ckpt", tmp_path / "model.yaml"
    reference = references.create("wavtokenizer", {"checkpoint": str(checkpoint), "config": str(config)})
    assert reference.version == "absent"
    versions = set()
    for weights, settings in ((b"one", "a"), (b"two", "a"), (b"two", "b")):  # of one name and size
        checkpoint.write_bytes(weights)
        config.write_text(settings)
        for number, path in enumerate((checkpoint, config)):
            os.utime(path, ns=(0, len(versions) + number))  # two writings within a tick of the clock
        versions.add(reference.version)
        assert reference.version.startswith("model.ckpt ")
    assert len(versions) == 3


def test_codec2_runs_or_says_how_to_install_it(voice: np.ndarray) -> None:
    reference = references.create("codec2", {"mode": 1200})
    if shutil.which("c2enc") is None:
        with pytest.raises(references.ReferenceUnavailable, match="apt install codec2"):
            reference.prepare()
        return
    decoded = reference.reconstruct(voice, 16_000)
    assert decoded.audio.shape == voice.shape
    assert decoded.bits is not None
    assert decoded.bits / 2 == pytest.approx(1200, rel=0.05)


@pytest.mark.parametrize(("bitrate", "stages"), [(3_200, 16), (6_000, 30), (9_200, 46)])
def test_lyra_spends_its_stages_and_nothing_from_clip_to_clip(
    bitrate: int, stages: int, lyra_files: Path, voice: np.ndarray
) -> None:
    pytest.importorskip("ai_edge_litert")
    name, options = references.parse(f"lyra:{bitrate}")
    lyra = references.create(name, {**options, "folder": str(lyra_files)})
    lyra.prepare()
    assert lyra.label == f"lyra {bitrate / 1000:g} kbit/s"
    assert lyra.rates == references.Rates(50, 50 * stages, stages, 4 * stages)
    assert "ai-edge-litert" in lyra.version
    clip = voice[:16_010]  # a frame of 320 samples, and 10 more
    decoded = lyra.reconstruct(clip, 16_000)
    assert decoded.audio.shape == clip.shape
    assert decoded.bits == 51 * 4 * stages
    assert decoded.bits / 51 * 50 == bitrate
    spectra = [np.abs(np.fft.rfft(signal))[50:4000] for signal in (clip, decoded.audio)]
    assert np.corrcoef(*spectra)[0, 1] > 0.9
    assert np.array_equal(lyra.reconstruct(clip, 16_000).audio, decoded.audio)
    for samples in (0, 1, 24_000):
        assert lyra.reconstruct(voice[:samples], 24_000).audio.shape == (samples,)


def test_lyra_needs_its_weights_and_its_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path))
    monkeypatch.delenv("CODECBENCH_SOUNDSTREAM", raising=False)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(references.ReferenceUnavailable, match=r"pip install 'codecbench\[references\]'"):
        references.create("lyra").prepare()
    monkeypatch.undo()
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path))
    monkeypatch.delenv("CODECBENCH_SOUNDSTREAM", raising=False)
    pytest.importorskip("ai_edge_litert")
    with pytest.raises(
        references.ReferenceUnavailable, match=r"weights not found: .*codecbench weights get soundstream"
    ):
        references.create("lyra").prepare()


# Real classes of transformers with small random weights: rates and lengths, not quality.


def small_model(name: str) -> Any:
    """One of transformers' codecs with random weights, as small as its class allows."""
    transformers = pytest.importorskip("transformers")
    if name == "encodec":
        config = transformers.EncodecConfig(num_filters=4, hidden_size=16, num_lstm_layers=1)
        return transformers.EncodecModel(config)
    if name == "dac":
        config = transformers.DacConfig(
            encoder_hidden_size=4, decoder_hidden_size=64, n_codebooks=3, codebook_size=64
        )
        return transformers.DacModel(config)
    if name == "mimi":
        codebooks = {"codebook_size": 32, "codebook_dim": 8, "vector_quantization_hidden_dimension": 8}
        attention = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}
        sizes = {"hidden_size": 16, "num_filters": 4, "num_hidden_layers": 1, "intermediate_size": 16}
        config = transformers.MimiConfig(
            num_quantizers=9, upsample_groups=16, **sizes, **codebooks, **attention
        )
        return transformers.MimiModel(config)
    if name in ("xcodec2", "neucodec"):
        return small_semantic_model(transformers, name)
    strides = {"downsampling_ratios": [8, 5, 4, 2], "upsampling_ratios": [8, 5, 4, 2]}
    acoustic = transformers.DacConfig(
        encoder_hidden_size=4, decoder_hidden_size=64, hidden_size=64, sampling_rate=16_000, **strides
    )
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    positions = {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
    semantic = transformers.HubertConfig(hidden_size=32, conv_dim=[32] * 7, **layers, **positions)
    config = transformers.XcodecConfig(acoustic_model_config=acoustic, semantic_model_config=semantic)
    return transformers.XcodecModel(config)


def small_semantic_model(transformers: Any, name: str) -> Any:
    """A model that needs a feature extractor beside it in its folder."""
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    semantic = transformers.Wav2Vec2BertConfig(hidden_size=32, conv_depthwise_kernel_size=3, **layers)
    sizes = {"hidden_size": 64, "head_dim": 32, "num_key_value_heads": 2, "encoder_hidden_size": 4, **layers}
    prefix = {"xcodec2": "Xcodec2", "neucodec": "NeuCodec"}[name]
    config = getattr(transformers, f"{prefix}Config")(
        semantic_model_config=semantic, quantization_dim=96, quantization_levels=[4, 4, 4], **sizes
    )
    model = getattr(transformers, f"{prefix}Model")(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # as they are drawn by default every code is the same, and the audio zero
        for layer in (model.fc_encoder, model.quantizer.project_in, model.quantizer.project_out):
            for values in layer.parameters():
                values.copy_(torch.randn(values.shape, generator=generator))
    return model


def save(name: str, folder: Path) -> None:
    """A small model, with its feature extractor where it has one, as transformers would publish it."""
    small_model(name).save_pretrained(folder)
    extractor = {"xcodec2": "Xcodec2FeatureExtractor", "neucodec": "NeuCodecFeatureExtractor"}.get(name)
    if extractor:
        import transformers

        getattr(transformers, extractor)().save_pretrained(folder)


@pytest.mark.parametrize("name", ["encodec", "dac", "mimi", "xcodec", "xcodec2", "neucodec"])
def test_transformers_codecs_count_their_tokens(name: str, voice: np.ndarray, tmp_path: Path) -> None:
    save(name, tmp_path)
    reference = references.create(name, {"checkpoint": str(tmp_path)})
    decoded = reference.reconstruct(voice, 16_000)
    rates = reference.rates
    assert decoded.audio.shape == voice.shape
    assert decoded.bits is not None
    assert rates.frame_rate
    assert rates.bits_per_frame
    frames = decoded.bits / rates.bits_per_frame
    assert frames == int(frames)
    assert 0 <= frames - math.floor(2 * rates.frame_rate) <= 1
    streams = {"encodec": 8, "dac": 3, "mimi": 8, "xcodec": 2, "xcodec2": 1, "neucodec": 1}
    assert rates.streams == streams[name]


@pytest.mark.parametrize(("name", "output_rate"), [("xcodec2", 16_000), ("neucodec", 24_000)])
def test_codecs_with_features_state_their_rates_and_cover_the_clip(
    name: str, output_rate: int, voice: np.ndarray, tmp_path: Path
) -> None:
    save(name, tmp_path)
    reference = references.create(name, {"checkpoint": str(tmp_path)})
    reference.prepare()
    assert reference.sample_rate == 16_000
    assert reference.rates == references.Rates(50, 50, 1, 6)  # 3 factors of 4 levels
    for samples in (1, 320, 321, 16_010):
        decoded = reference.reconstruct(voice[:samples], 16_000)
        assert decoded.audio.shape == (samples,)
        assert decoded.bits is not None
        whole = samples % 320 == 0
        assert decoded.bits / 6 == math.ceil(samples / 320) + (whole and name == "xcodec2")
    tail = decoded.audio[-8:]
    assert np.isfinite(decoded.audio).all()
    assert np.abs(tail).min() > 0  # the last frame, of which there are 10 samples, is decoded, too
    seconds = reference.reconstruct(voice[:output_rate], output_rate)
    assert seconds.audio.shape == (output_rate,)
    assert seconds.bits is not None
    assert seconds.bits / 6 in (50, 51)


def test_a_missing_feature_extractor_is_told_before_any_work(tmp_path: Path) -> None:
    small_model("xcodec2").save_pretrained(tmp_path)
    with pytest.raises(references.ReferenceUnavailable, match="weights not found"):
        references.create("xcodec2", {"checkpoint": str(tmp_path)}).prepare()


def test_absent_weights_say_how_to_get_them() -> None:
    pytest.importorskip("transformers")
    with pytest.raises(references.ReferenceUnavailable, match="weights not found: /nowhere"):
        references.create("dac", {"checkpoint": "/nowhere"}).prepare()
