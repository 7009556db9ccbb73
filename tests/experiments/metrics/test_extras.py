"""Metrics that need more than what codecbench depends on: how they say so, and what they find."""

import sys

import pytest

from experiments import metrics
from experiments.metrics import MetricUnavailable, golden
from experiments.metrics.families.transcription import words

EXTRAS = [name for name in metrics.available() if metrics.get(name).install]

UTMOS_STAND_IN = """
import torch
from ..layers import SCALE

class UTMOS22Strong(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.offset = torch.nn.Parameter(torch.zeros(1))

    def forward(self, wave, sr):
        assert sr == 16000 and wave.ndim == 2
        return SCALE * wave.abs().mean(1) + self.offset
"""


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A torch.hub folder laid out as that of tarepan/SpeechMOS, with a small model."""
    import torch

    from experiments.metrics.families import utmos

    package = tmp_path / "tarepan_SpeechMOS_v1.2.0" / "speechmos" / "utmos22"
    (package / "strong").mkdir(parents=True)
    for folder in (package.parent, package, package / "strong"):
        (folder / "__init__.py").write_text("")
    (package / "layers.py").write_text("SCALE = 10.0\n")
    (package / "strong" / "model.py").write_text(UTMOS_STAND_IN)
    (tmp_path / "checkpoints").mkdir()
    torch.save({"offset": torch.tensor([2.5])}, tmp_path / "checkpoints" / "utmos22_strong_step7459_v1.pt")
    monkeypatch.setenv(utmos.FOLDER_VARIABLE, str(tmp_path))
    utmos._model.cache_clear()
    yield tmp_path
    utmos._model.cache_clear()
    for name in [name for name in sys.modules if name.startswith(utmos._MODULE)]:
        del sys.modules[name]


@pytest.mark.parametrize("name", [name for name in EXTRAS if metrics.get(name).missing()])
def test_missing_extras_name_the_install(name):
    with pytest.raises(MetricUnavailable, match=rf"^metric '{name}' needs .*: pip install \S+"):
        metrics.get(name).require()


def test_utmos_without_weights_tells_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("CODECBENCH_UTMOS", str(tmp_path))
    with pytest.raises(MetricUnavailable, match=r"torch\.hub\.load\('tarepan/SpeechMOS.*CODECBENCH_UTMOS"):
        metrics.get("utmos").require()


def test_utmos_loads_code_and_weights_from_the_cache_beside_the_other_speechmos(hub):
    import speechmos

    clip, _, rate = golden.pair("noisy")
    value = metrics.get("utmos").compute(clip, clip, rate)
    assert value == pytest.approx(2.5 + 10 * abs(clip).mean(), abs=0.01)
    assert sys.modules["speechmos"] is speechmos
    assert "utmos22_strong" in metrics.get("utmos").version()


def test_whisper_folder_without_model_is_refused(tmp_path, monkeypatch):
    from experiments.metrics.families.transcription import model_folder

    monkeypatch.setenv("CODECBENCH_WHISPER", str(tmp_path))
    with pytest.raises(MetricUnavailable, match=r"no faster-whisper model \(model.bin\) in it"):
        model_folder()


def test_words_are_compared_without_case_and_punctuation():
    assert words(" It's  TWO - o'clock, he said… ") == "it's two o'clock he said"


@pytest.mark.slow
def test_plcmos_repeats_and_leaves_the_global_generator_alone():
    import numpy as np

    clip, noisy, rate = golden.pair("noisy")
    np.random.seed(5)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    values = {metrics.get("plcmos").compute(clip, noisy, rate) for _ in range(2)}
    assert len(values) == 1
    assert values.pop() == pytest.approx(2.346, abs=0.05)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
