"""Disturbances: what they do to codes and signals, and what a study logs of them."""

import numpy as np
import pytest
import torch

import quantizers
from codec import backbones, model
from codec.model import Codec
from experiments.evaluation import robustness
from experiments.studies import study
from experiments.studies.sections import Robustness


@pytest.fixture(scope="module")
def codec() -> Codec:
    backbone = backbones.get("mdct-tiny", {"width": 16, "blocks": 1})
    return model.build(backbone, lambda dim: quantizers.create("fsq", dim=dim, levels=[5, 5, 5]), 0).eval()


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(8_000)).astype(np.float32)


def test_flips_hit_the_asked_share_and_never_leave_a_code_as_it_was() -> None:
    codes = torch.from_numpy(np.random.default_rng(0).integers(0, [5, 1000], size=(1, 20_000, 2)))
    hit = robustness.flip(codes, (5, 1000), 0.1, np.random.default_rng(1))
    assert float((hit != codes).double().mean()) == pytest.approx(0.1, abs=0.01)
    every = robustness.flip(codes, (5, 1000), 1.0, np.random.default_rng(1))
    assert bool((every != codes).all())
    assert bool((every >= 0).all())
    assert every.amax(dim=(0, 1)).tolist() == [4, 999]


def test_dropped_frames_repeat_the_last_one_received() -> None:
    codes = torch.arange(10_000).reshape(1, -1, 1)
    kept = robustness.drop(codes, (10_000,), 0.3, np.random.default_rng(0))[0, :, 0].numpy()
    lost = kept != np.arange(10_000)
    assert lost.mean() == pytest.approx(0.3, abs=0.02)
    assert kept[0] == 0
    assert (kept[lost] == kept[np.flatnonzero(lost) - 1]).all()


def test_shuffled_frames_are_all_still_there_elsewhere() -> None:
    codes = torch.arange(20_000).reshape(1, -1, 2)
    for share, moved in ((0.3, 0.3), (1.0, 1.0)):
        mixed = robustness.shuffle(codes, (20_000, 20_000), share, np.random.default_rng(0))
        assert float((mixed != codes).double().mean()) == pytest.approx(moved, abs=0.02)
        assert torch.equal(mixed[..., 1] - mixed[..., 0], torch.ones(1, 10_000, dtype=torch.int64))
        assert torch.equal(mixed[0, :, 0].sort().values, codes[0, :, 0])


def test_shuffled_periods_keep_their_tokens() -> None:
    codes = torch.arange(22).reshape(1, 22, 1) // 4 * 4
    mixed = robustness.shuffle(codes, (22,), 1.0, np.random.default_rng(0), period=4)
    assert not torch.equal(mixed, codes)
    assert sorted(mixed[0, ::4, 0].tolist()) == [0, 4, 8, 12, 16, 20]
    assert torch.equal(mixed[:, ::4].repeat_interleave(4, 1)[:, :22], mixed)
    assert torch.equal(mixed[:, 20:], codes[:, 20:])


@pytest.mark.parametrize(
    ("kind", "severity"),
    [("flips", 5), ("drops", 5), ("reencodings", 2), ("noise", 20), ("gain", -12), ("shuffles", 100)],
)
def test_the_result_is_as_long_and_the_same_every_time(
    kind: str, severity: float, codec: Codec, clip: np.ndarray
) -> None:
    first = robustness.disturbed(codec, clip, kind, severity, 3)
    assert first.shape == clip.shape
    assert np.array_equal(first, robustness.disturbed(codec, clip, kind, severity, 3))
    assert not np.array_equal(first, codec.reconstruct(torch.from_numpy(clip)[None])[0].numpy())


def test_no_disturbance_is_the_plain_reconstruction(codec: Codec, clip: np.ndarray) -> None:
    plain = codec.reconstruct(torch.from_numpy(clip)[None])[0].numpy()
    for kind in ("flips", "drops", "shuffles", "reencodings", "undisturbed"):
        np.testing.assert_allclose(robustness.disturbed(codec, clip, kind, 0.0, 0), plain, atol=1e-6)


def test_without_codes_only_the_signal_is_disturbed() -> None:
    asked = Robustness(flips=(1,), drops=(1,), shuffles=(100,), reencodings=(1, 2), noise=(20,), gain=(-6, 6))
    assert len(list(robustness.conditions(asked, coded=True))) == 9
    uncoded = {kind for kind, _ in robustness.conditions(asked, coded=False)}
    assert uncoded == {"undisturbed", "reencodings", "noise", "gain"}


def test_a_study_reads_the_section_and_refuses_nonsense() -> None:
    values = {"name": "x", "quantizers": ["vq"], "bits": 12}
    asked = study.check({**values, "evaluate": {"robustness": {"flips": [1, 5], "noise": [20]}}}, "x.yaml")
    assert asked.evaluate.robustness is not None
    assert asked.evaluate.robustness.flips == (1, 5)
    with pytest.raises(study.StudyError, match="did you mean 'flips'"):
        study.check({**values, "evaluate": {"robustness": {"flip": [1]}}}, "x.yaml")
    with pytest.raises(study.StudyError, match=r"evaluate\.robustness\.flips"):
        study.check({**values, "evaluate": {"robustness": {"flips": [0]}}}, "x.yaml")
