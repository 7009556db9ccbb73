"""How a GPU computes is set for a training and taken back after it; a CPU is left alone."""

import os
from types import SimpleNamespace

import pytest
import torch

from codec.float32 import full_precision, tf32
from codec.reflection import pad, reflect, stft
from experiments.evaluation import robustness, test_set, token_model
from experiments.studies.sections import Train
from experiments.training.on_device.arithmetic import arithmetic, prepare_process
from experiments.training.precision import resolved

CUDA = torch.device("cuda")


def set_now() -> dict[str, bool]:
    cudnn = torch.backends.cudnn
    return {
        "convolutions in TF32": cudnn.allow_tf32,
        "products in TF32": torch.backends.cuda.matmul.allow_tf32,
        "benchmark": cudnn.benchmark,
        "cudnn.deterministic": cudnn.deterministic,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "only warned": torch.is_deterministic_algorithms_warn_only_enabled(),
    }


@pytest.mark.parametrize(
    ("keys", "on"),
    [
        ({}, set()),
        ({"tf32": True}, {"convolutions in TF32", "products in TF32"}),
        ({"cudnn_benchmark": True}, {"benchmark"}),
        ({"deterministic": True}, {"deterministic", "cudnn.deterministic"}),
    ],
)
def test_keys_hold_for_a_training_on_a_gpu_alone(keys: dict[str, bool], on: set[str]) -> None:
    before, config = set_now(), Train.model_validate(keys)
    with arithmetic(config, torch.device("cpu")):
        assert set_now() == before
    with pytest.raises(ZeroDivisionError), arithmetic(config, CUDA):
        assert {name for name, value in set_now().items() if value} == on
        with full_precision():
            assert not set_now()["convolutions in TF32"]
            assert not set_now()["products in TF32"]
        raise ZeroDivisionError
    assert set_now() == before


def test_evaluation_is_in_full_precision_whatever_is_set() -> None:
    class Seen(Exception):
        pass

    class Asked:
        def eval(self) -> None:
            assert not set_now()["convolutions in TF32"]
            assert not set_now()["products in TF32"]
            raise Seen

        def __getattr__(self, name: str) -> object:
            return self.eval()

    codec, check = Asked(), lambda done, asked: None
    clip = torch.zeros(8).numpy()
    for measure in (
        lambda: test_set.reconstruct(codec, [], check),  # type: ignore[arg-type]
        lambda: test_set.in_bf16(codec, [], check),  # type: ignore[arg-type]
        lambda: robustness.disturbed(codec, clip, "gain", 1.0, 0),  # type: ignore[arg-type]
        lambda: token_model.measure(codec, [], [], steps=1, seed=0, check=check),  # type: ignore[arg-type]
    ):
        with tf32(True), pytest.raises(Seen):
            measure()


def test_the_process_is_prepared_before_it_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    prepare_process()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")  # the user's own
    prepare_process()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_the_deterministic_reflection_is_torchs() -> None:
    audio = torch.randn(2, 500, generator=torch.Generator().manual_seed(0))
    assert torch.equal(pad(audio, 0, 7), reflect(audio, 0, 7))
    window = torch.hann_window(64)
    padded = reflect(audio, 32, 32)
    assert torch.equal(
        stft(audio, 64, 16, window),
        torch.stft(padded, 64, 16, window=window, center=False, return_complex=True),
    )


def test_identity_knows_tf32_alone() -> None:
    plain = Train().identity()
    assert not {"tf32", "cudnn_benchmark", "deterministic"} & plain.keys()
    assert Train(deterministic=True).identity() == Train(cudnn_benchmark=True).identity() == plain
    assert Train(tf32=True).identity() == {**plain, "tf32": True}
    with pytest.raises(ValueError, match="exclude each other"):
        Train(deterministic=True, cudnn_benchmark=True)


@pytest.mark.parametrize(("major", "minor", "precision"), [(7, 5, "fp32"), (8, 0, "bf16"), (9, 0, "bf16")])
def test_auto_is_bf16_only_where_the_gpu_has_it(
    major: int, minor: int, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch counts emulation as support, also on cards without convolutions in bf16, such as a T4 (7.5)."""
    properties = SimpleNamespace(major=major, minor=minor)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda *_: properties)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (major, minor))
    assert resolved("auto", CUDA) == precision
    assert resolved("fp16", CUDA) == "fp16"
