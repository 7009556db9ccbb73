"""Lyra 2 as released, through the runtime that its files are made for."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from codec.references.contract import (
    Decoded,
    Rates,
    Reference,
    ReferenceCodecError,
    ReferenceUnavailable,
    fit,
    kilobits,
    resample,
)

RATE = 16_000
HOP = 320
DIM = 64
STAGES, STAGE_BITS = 46, 4
STAGE_RATE = STAGE_BITS * RATE // HOP  # bit/s of a stage: 200
PACKAGE = "ai-edge-litert"


@dataclass(frozen=True, kw_only=True)
class Lyra(Reference):
    """Lyra 2 (SoundStream, Zeghidour et al. 2021) at 16 kHz, 50 frames per second of 4 bits per stage.

    bitrate: 3200, 6000 and 9200 bit/s are published; any other number of its 46 stages works as well.
    folder: with the three files of the release; without it, as `codec.weights.files` looks for them.
    Bits are those of the stages in use; frames are sent alone, without any packet around them.
    """

    summary: ClassVar[str] = "Lyra 2, 16 kHz: 3.2, 6 or 9.2 kbit/s"
    main_option: ClassVar[str] = "bitrate"

    bitrate: int = 3_200
    folder: str = ""

    def __post_init__(self) -> None:
        rates = range(STAGE_RATE, STAGES * STAGE_RATE + 1, STAGE_RATE)
        if type(self.bitrate) is not int or self.bitrate not in rates:
            raise ReferenceCodecError(
                f"lyra: bitrate {self.bitrate!r} is no multiple of {STAGE_RATE} from {STAGE_RATE} to "
                f"{STAGES * STAGE_RATE} bit/s; published are 3200, 6000 and 9200"
            )

    @property
    def label(self) -> str:
        return f"lyra {kilobits(self.bitrate)}"

    @property
    def sample_rate(self) -> int:
        return RATE

    @property
    def rates(self) -> Rates:
        return Rates(RATE / HOP, RATE / HOP * self._stages, self._stages, self._stages * STAGE_BITS)

    @property
    def version(self) -> str:
        from importlib.metadata import PackageNotFoundError, version

        from codec import weights

        try:
            return f"{weights.get('soundstream').files[0].sha256[:16]}, {PACKAGE} {version(PACKAGE)}"
        except PackageNotFoundError:
            return "absent"

    def prepare(self) -> None:
        _ = self._quantizer

    def reconstruct(self, audio: np.ndarray, sample_rate: int) -> Decoded:
        signal = np.clip(resample(audio, sample_rate, RATE), -1, 1)
        frames = np.pad(signal, (0, -len(signal) % HOP)).reshape(-1, 1, HOP)
        # Each clip has interpreters of its own: what the runtime offers to reset their state does not.
        encoder = Network(self.interpreter("soundstream_encoder.tflite"))
        decoder = Network(self.interpreter("lyragan.tflite"))
        encode, decode = (self._quantizer.get_signature_runner(name) for name in ("encode", "decode"))
        decoded = [np.zeros(0, np.float32)]
        for frame in frames:
            features = encoder(frame).reshape(1, 1, DIM)
            codes = encode(input_frames=features, num_quantizers=np.int32(self._stages))["output_0"]
            decoded.append(decoder(decode(encoding_indices=codes)["output_0"]).ravel())
        bits = len(frames) * self._stages * STAGE_BITS
        return Decoded(fit(resample(np.concatenate(decoded), RATE, sample_rate), len(audio)), bits)

    def interpreter(self, file: str) -> Any:
        """A new interpreter of a file of the release. Raises ReferenceUnavailable."""
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise ReferenceUnavailable(
                f"lyra needs the package {PACKAGE}: pip install 'codecbench[references]'"
            ) from None
        interpreter = Interpreter(model_path=str(self._files / file), num_threads=1)
        interpreter.allocate_tensors()
        return interpreter

    @property
    def _stages(self) -> int:
        return self.bitrate // STAGE_RATE

    @cached_property
    def _files(self) -> Path:
        from codec import weights

        try:
            return weights.files("soundstream", folder=self.folder or None)
        except weights.WeightsError as error:
            raise ReferenceUnavailable(f"weights not found: {error}") from None

    @cached_property
    def _quantizer(self) -> Any:
        return self.interpreter("quantizer.tflite")  # it keeps no state


class Network:
    """An interpreter as a function of one tensor, with the state that it carries from call to call."""

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter
        (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
        self._source, self._shape, self._target = source["index"], source["shape"], target["index"]

    def __call__(self, values: np.ndarray) -> np.ndarray:
        self._interpreter.set_tensor(self._source, values.reshape(self._shape).astype(np.float32))
        self._interpreter.invoke()
        return np.asarray(self._interpreter.get_tensor(self._target))
