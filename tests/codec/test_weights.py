"""Released weights: a way for each place that they can be in, and a remedy for each thing that can fail."""

import dataclasses
import hashlib
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from codec import backbones, weights
from codec.weights import catalogue, downloading, obtaining
from codec.weights import soundstream as conversion
from codec.weights.catalogue import Release, ReleasedFile, WeightsError
from codec.weights.tflite_files import TFLiteFile

Operator = tuple[str, Sequence[np.ndarray | None]]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CODECBENCH_SOUNDSTREAM", raising=False)
    return tmp_path / "cache"


# TensorFlow Lite files, written here.


def tflite_file(
    path: Path, graphs: dict[str, Sequence[Operator]], scales: dict[int, tuple[list[float], list[int], int]]
) -> Path:
    """A file with these operators, whose inputs are constants, or None for a tensor that is computed.

    scales: by the identity of an array, its scales, zero points and quantized dimension.
    """
    tflite, flatbuffers = pytest.importorskip("tflite"), pytest.importorskip("flatbuffers")
    build = flatbuffers.Builder(1024)
    kinds = sorted({kind for operators in graphs.values() for kind, _ in operators})
    buffers = [b""]
    made = []
    for name, operators in graphs.items():
        tensors, placed = [], []
        for kind, inputs in operators:
            numbers = []
            for value in inputs:
                numbers.append(len(tensors))
                tensors.append(_tensor(tflite, build, value, len(buffers), scales))
                if value is not None:
                    buffers.append(value.tobytes())
            vector = build.CreateNumpyVector(np.asarray(numbers, np.int32))
            tflite.OperatorStart(build)
            tflite.OperatorAddOpcodeIndex(build, kinds.index(kind))
            tflite.OperatorAddInputs(build, vector)
            placed.append(tflite.OperatorEnd(build))
        parts = _vector(build, tensors), _vector(build, placed), build.CreateString(name)
        tflite.SubGraphStart(build)
        tflite.SubGraphAddTensors(build, parts[0])
        tflite.SubGraphAddOperators(build, parts[1])
        tflite.SubGraphAddName(build, parts[2])
        made.append(tflite.SubGraphEnd(build))
    codes = []
    for kind in kinds:
        tflite.OperatorCodeStart(build)
        tflite.OperatorCodeAddDeprecatedBuiltinCode(build, getattr(tflite.BuiltinOperator, kind))
        codes.append(tflite.OperatorCodeEnd(build))
    stored = []
    for data in buffers:
        vector = build.CreateByteVector(data) if data else None
        tflite.BufferStart(build)
        if vector is not None:
            tflite.BufferAddData(build, vector)
        stored.append(tflite.BufferEnd(build))
    vectors = [_vector(build, offsets) for offsets in (codes, made, stored)]
    tflite.ModelStart(build)
    tflite.ModelAddVersion(build, 3)
    tflite.ModelAddOperatorCodes(build, vectors[0])
    tflite.ModelAddSubgraphs(build, vectors[1])
    tflite.ModelAddBuffers(build, vectors[2])
    build.Finish(tflite.ModelEnd(build), b"TFL3")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(build.Output()))
    return path


def _vector(build: Any, offsets: Sequence[int]) -> int:
    build.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        build.PrependUOffsetTRelative(offset)
    return build.EndVector()


def _tensor(tflite: Any, build: Any, value: np.ndarray | None, buffer: int, scales: dict) -> int:
    quantization = None
    if value is not None and id(value) in scales:
        factors, zeros, dimension = scales[id(value)]
        vectors = [build.CreateNumpyVector(np.asarray(factors, np.float32))]
        vectors.append(build.CreateNumpyVector(np.asarray(zeros, np.int64)))
        tflite.QuantizationParametersStart(build)
        tflite.QuantizationParametersAddScale(build, vectors[0])
        tflite.QuantizationParametersAddZeroPoint(build, vectors[1])
        tflite.QuantizationParametersAddQuantizedDimension(build, dimension)
        quantization = tflite.QuantizationParametersEnd(build)
    types = {"f4": "FLOAT32", "i1": "INT8", "i4": "INT32", "c8": "COMPLEX64"}
    array = np.zeros(0, np.float32) if value is None else value
    shape, name = build.CreateNumpyVector(np.asarray(array.shape, np.int32)), build.CreateString("values")
    tflite.TensorStart(build)
    tflite.TensorAddShape(build, shape)
    tflite.TensorAddName(build, name)
    tflite.TensorAddType(build, getattr(tflite.TensorType, types[array.dtype.str[1:]]))
    tflite.TensorAddBuffer(build, buffer if value is not None else 0)
    if quantization is not None:
        tflite.TensorAddQuantization(build, quantization)
    return tflite.TensorEnd(build)


def numbers(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape) / 7 - 1


def test_layers_of_a_file_are_read_in_order_and_dequantized(tmp_path: Path) -> None:
    dense, bias = numbers(4, 3, 1, 2), numbers(4)
    depthwise = np.arange(-6, 6, dtype=np.int8).reshape(1, 3, 1, 4)
    depthwise_bias = np.array([5, -5, 10, 0], np.int32)
    transposed = np.arange(-4, 4, dtype=np.int8).reshape(2, 2, 1, 2)
    shape = np.array([1, 4, 1, 2], np.int32)
    scales = {
        id(depthwise): ([0.5, 1.0, 2.0, 4.0], [0, 0, 0, 0], 3),
        id(depthwise_bias): ([0.5, 1.0, 2.0, 4.0], [0, 0, 0, 0], 0),
        id(transposed): ([0.25], [3], 0),
    }
    operators: list[Operator] = [
        ("CONV_2D", (None, dense, bias)),
        ("LEAKY_RELU", (None,)),
        ("DEPTHWISE_CONV_2D", (None, depthwise, depthwise_bias)),
        ("TRANSPOSE_CONV", (shape, transposed, None, numbers(2))),
    ]
    file = TFLiteFile(tflite_file(tmp_path / "layers.tflite", {"other": [], "main": operators}, scales))
    layers = list(file.layers(file.graph("main")))
    assert [layer.kind for layer in layers] == ["CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"]
    assert all(value.dtype == np.float32 for layer in layers for value in (layer.weight, layer.bias))
    np.testing.assert_array_equal(layers[0].weight, dense)
    np.testing.assert_array_equal(layers[0].bias, bias)
    np.testing.assert_array_equal(layers[1].weight, depthwise * np.float32([0.5, 1, 2, 4]))
    np.testing.assert_array_equal(layers[1].bias, [2.5, -5, 20, 0])
    np.testing.assert_array_equal(layers[2].weight, (transposed - np.float32(3)) * 0.25)
    assert list(file.layers(file.graph("other"))) == []
    assert [value.shape for value in file.constants(file.graph("main"), "TRANSPOSE_CONV")] == [
        *((4,), (2, 2, 1, 2), (2,))
    ]


def test_files_that_are_none_say_so(tmp_path: Path) -> None:
    pytest.importorskip("tflite")
    path = tmp_path / "page.tflite"
    path.write_bytes(b"<html>not here</html>" * 10)
    with pytest.raises(WeightsError, match=r"page\.tflite is not a TensorFlow Lite file; fetch it again"):
        TFLiteFile(path)
    path.write_bytes(b"")
    with pytest.raises(WeightsError, match="is not a TensorFlow Lite file"):
        TFLiteFile(path)
    file = TFLiteFile(tflite_file(path, {"main": [("CONV_2D", (None, np.zeros(3, np.complex64), None))]}, {}))
    with pytest.raises(WeightsError, match="has no graph 'encode', only main"):
        file.graph("encode")
    with pytest.raises(WeightsError, match="of the type COMPLEX64, which is not read here"):
        list(file.layers(0))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tflite", None)
    (tmp_path / "encoder.tflite").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"pip install 'codecbench\[soundstream\]'"):
        TFLiteFile(tmp_path / "encoder.tflite")


def operators(kernels: dict[str, torch.Tensor], transposed: Sequence[str] = ()) -> list[Operator]:
    """Convolutions in the order of TensorFlow, of weights in that of torch; `transposed` are transposed."""
    made: list[Operator] = []
    for name, tensor in kernels.items():
        if not name.endswith(".weight"):
            continue
        kernel, bias = tensor.detach().numpy(), kernels[name.removesuffix("weight") + "bias"].detach().numpy()
        if "depthwise" in name:
            weight = np.ascontiguousarray(kernel.transpose(1, 2, 0)[:, :, None])
            made.append(("DEPTHWISE_CONV_2D", (None, weight, bias)))
        elif name in transposed:
            pieces = len(bias) // kernel.shape[1]
            for part, of_part in zip(np.split(kernel, pieces), np.split(bias, pieces), strict=True):
                weight = np.ascontiguousarray(part.transpose(1, 2, 0)[:, :, None])
                made.append(("TRANSPOSE_CONV", (np.zeros(4, np.int32), weight, None, of_part.copy())))
        else:
            weight = np.ascontiguousarray(kernel.transpose(0, 2, 1)[:, :, None])
            made.append(("CONV_2D", (None, weight, bias)))
    return made


@pytest.fixture
def lyra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, dict[str, torch.Tensor]]:
    """Files like the released ones with other numbers, in the catalogue; and what they hold."""
    torch.manual_seed(0)
    encoder, decoder = backbones.get("soundstream").build()
    for network in (encoder, decoder):
        for name, value in network.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(value)
    folder = tmp_path / "lyra"
    tflite_file(folder / "soundstream_encoder.tflite", {"main": operators(encoder.kernels())}, {})
    transposed = ["head.weight", *(f"stages.{stage}.convolution.weight" for stage in range(3))]
    layers = operators(decoder.kernels(), transposed)
    tflite_file(folder / "lyragan.tflite", {"main": layers, "NoOp": []}, {})
    codebooks = numbers(46, 1, 16, 64)
    searches = [("SQUARED_DIFFERENCE", (None, codebook)) for codebook in codebooks]
    tflite_file(folder / "quantizer.tflite", {"decode": [], "encode": searches}, {})
    held = {f"encoder.{name}": value.detach() for name, value in encoder.kernels().items()}
    held |= {f"decoder.{name}": value.detach() for name, value in decoder.kernels().items()}
    held["bottleneck.codebooks"] = torch.from_numpy(codebooks[:, 0])
    files = tuple(
        ReleasedFile(file.name, len(data), hashlib.sha256(data).hexdigest(), file.url)
        for file in weights.get("soundstream").files
        if (data := (folder / file.name).read_bytes())
    )
    content = obtaining.digest({name: value.numpy() for name, value in held.items()})
    release = dataclasses.replace(weights.get("soundstream"), files=files, content_hash=content)
    monkeypatch.setitem(catalogue._RELEASES, "soundstream", release)
    return folder, held


Lyra = tuple[Path, dict[str, torch.Tensor]]


def test_files_in_a_folder_become_an_encoder_a_decoder_and_codebooks(lyra: Lyra, own_cache: Path) -> None:
    folder, held = lyra
    tensors = weights.obtain("soundstream", folder=folder)
    assert tensors.keys() == held.keys()
    assert all(torch.equal(tensors[name], held[name]) for name in held)
    assert weights.part(tensors, "bottleneck").keys() == {"codebooks"}
    with pytest.raises(WeightsError, match="no section 'quantizer', only encoder, decoder, bottleneck"):
        weights.part(tensors, "quantizer")
    torch.manual_seed(3)
    expected = torch.randn(2)
    torch.manual_seed(3)
    encoder, decoder = backbones.load_released("soundstream", folder=folder)
    assert torch.equal(torch.randn(2), expected)  # nothing of the global generator is used up
    given = {f"encoder.{name}": value for name, value in encoder.kernels().items()}
    given |= {f"decoder.{name}": value for name, value in decoder.kernels().items()}
    assert all(torch.equal(given[name], held[name]) for name in given)
    with pytest.raises(backbones.BackboneError, match="fit only the released sizes"):
        backbones.load_released("soundstream", backbone=backbones.get("soundstream", {"width": 32}))


def test_they_are_converted_once(lyra: Lyra, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, held = lyra
    assert not weights.present("soundstream")
    monkeypatch.setenv("CODECBENCH_SOUNDSTREAM", str(folder))
    assert weights.present("soundstream")
    weights.obtain("soundstream")
    (kept,) = (own_cache / "weights").iterdir()
    assert kept.name == f"soundstream-{weights.content_hash('soundstream')[:16]}.safetensors"
    monkeypatch.delenv("CODECBENCH_SOUNDSTREAM")
    assert weights.present("soundstream")
    monkeypatch.setattr(conversion, "convert", lambda folder: pytest.fail("converted again"))
    again = weights.obtain("soundstream")
    assert all(torch.equal(again[name], held[name]) for name in held)


def test_a_damaged_conversion_is_made_again(lyra: Lyra, own_cache: Path, caplog) -> None:
    folder, held = lyra
    weights.obtain("soundstream", folder=folder)
    (kept,) = (own_cache / "weights").iterdir()
    whole = kept.read_bytes()
    for damaged in (whole[:1000], whole[:-1] + bytes([whole[-1] ^ 1])):
        kept.write_bytes(damaged)
        with pytest.raises(WeightsError, match="are not here"):
            weights.obtain("soundstream")
        assert "is damaged and converted again" in caplog.text
        weights.obtain("soundstream", folder=folder)
        assert weights.obtain("soundstream").keys() == held.keys()  # from the cache again


def test_a_cache_that_cannot_be_written_is_no_obstacle(
    lyra: Lyra, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path / "file"))
    assert weights.obtain("soundstream", folder=lyra[0]).keys() == lyra[1].keys()
    assert "cannot be written" in caplog.text
    with pytest.raises(WeightsError, match=r"cannot be written .* set CODECBENCH_CACHE"):
        weights.obtain("soundstream", fetch=True)


def spoil(folder: Path, how: str) -> None:
    path = folder / "quantizer.tflite"
    data = path.read_bytes()
    if how == "absent":
        path.unlink()
    elif how == "short":
        path.write_bytes(data[:-100])
    else:
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("absent", r"there is no .*quantizer\.tflite"),
        ("short", r"quantizer\.tflite is cut short: [\d,]+ of [\d,]+ bytes"),
        ("changed", r"quantizer\.tflite has another checksum than the released file"),
    ],
)
def test_a_folder_with_other_files(how: str, words: str, named: bool, lyra: Lyra, monkeypatch) -> None:
    folder = lyra[0]
    spoil(folder, how)
    remedy = r".*Get the files of soundstream from https://github.com/google/lyra/tree/47698da"
    if named:
        monkeypatch.setenv("CODECBENCH_SOUNDSTREAM", str(folder))
    with pytest.raises(WeightsError, match=words + (r".*CODECBENCH_SOUNDSTREAM" if named else "") + remedy):
        weights.obtain("soundstream", folder=None if named else folder)


def test_absent_weights_name_each_way_to_them() -> None:
    with pytest.raises(WeightsError) as error:
        weights.obtain("soundstream")
    for words in (
        "3.6 MB",
        "Apache-2.0",
        "codecbench weights get soundstream",
        "--from FOLDER",
        "google/lyra",
    ):
        assert words in str(error.value)
    with pytest.raises(WeightsError, match="did you mean 'soundstream'"):
        weights.obtain("soundstreem")


def test_other_networks_are_refused(lyra: Lyra) -> None:
    """Files whose checksums are right, but which hold something else, as after a mistake in the catalogue."""
    folder, _ = lyra
    encoder, decoder = folder / "soundstream_encoder.tflite", folder / "lyragan.tflite"
    whole = encoder.read_bytes()
    encoder.write_bytes(decoder.read_bytes())
    with pytest.raises(WeightsError, match=r"has \d+ convolutions, Lyra 2 has \d+; fetch it again"):
        conversion.convert(folder)
    small, _ = backbones.get("soundstream", {"width": 32}).build()
    tflite_file(encoder, {"main": operators(small.kernels())}, {})
    with pytest.raises(WeightsError, match=r"stem should be CONV_2D \[64, 1, 64\] .* is CONV_2D \[32, 64"):
        conversion.convert(folder)
    encoder.write_bytes(whole)
    tflite_file(folder / "quantizer.tflite", {"encode": []}, {})
    with pytest.raises(WeightsError, match="does not hold 46 codebooks of 16 codes"):
        conversion.convert(folder)


# Downloads, from a server on this machine.


class Server:
    """Serves files, knows ranges, and can hang up in the middle of a body."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.hang_up_after, self.ranges = files, list[int](), True
        self.requests: list[tuple[str, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                outer.requests.append((self.path, wanted))
                if self.path not in outer.files:
                    self.send_error(404)
                    return
                body = outer.files[self.path]
                start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and outer.ranges else 0
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(body) - start))
                self.end_headers()
                stop = start + outer.hang_up_after.pop(0) if outer.hang_up_after else len(body)
                self.wfile.write(body[start:stop])

            def log_message(self, *_: object) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def server(lyra: Lyra, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Serves the files of `lyra`, and nothing else has them."""
    server = Server({f"/{path.name}": path.read_bytes() for path in lyra[0].iterdir()})
    release = weights.get("soundstream")
    files = tuple(dataclasses.replace(file, url=f"{server.url}/{file.name}") for file in release.files)
    monkeypatch.setitem(catalogue._RELEASES, "soundstream", dataclasses.replace(release, files=files))
    monkeypatch.setattr(downloading, "PATIENCE", 0.0)
    monkeypatch.setattr(downloading, "CHUNK", 500)
    yield server
    server.close()


def test_a_download_tells_its_progress_and_comes_once(server: Server, lyra: Lyra, own_cache: Path) -> None:
    told: list[tuple[str, int, int]] = []
    tensors = weights.obtain("soundstream", fetch=True, progress=lambda *now: told.append(now))
    assert all(torch.equal(tensors[name], value) for name, value in lyra[1].items())
    release = weights.get("soundstream")
    for file in release.files:
        steps = [(done, whole) for what, done, whole in told if what == f"downloading {file.name}"]
        assert steps == sorted(steps)
        assert steps[-1] == (file.size, file.size)
    assert len(server.requests) == 3
    assert weights.files("soundstream") == own_cache / "weights" / "soundstream"
    weights.files("soundstream", fetch=True)
    assert len(server.requests) == 3


def test_a_download_goes_on_where_it_stopped(server: Server, own_cache: Path) -> None:
    server.hang_up_after = [5000, 7000, 9000]
    with pytest.raises(WeightsError, match=r"the connection ended early.*Try again to resume"):
        weights.obtain("soundstream", fetch=True)
    ranges = [wanted for _, wanted in server.requests]
    assert ranges == [None, "bytes=5000-", "bytes=12000-"]
    assert weights.obtain("soundstream", fetch=True)
    assert server.requests[3] == ("/soundstream_encoder.tflite", "bytes=21000-")
    assert not list(own_cache.rglob("*.part"))


def test_a_server_that_does_not_resume_begins_again(server: Server) -> None:
    server.ranges, server.hang_up_after = False, [5000]
    assert weights.obtain("soundstream", fetch=True)


def test_a_wrong_download_is_removed(server: Server, own_cache: Path) -> None:
    name = "/quantizer.tflite"
    body = server.files[name]
    server.files[name] = body[:-1] + bytes([body[-1] ^ 1])
    with pytest.raises(
        WeightsError, match=r"does not have the released content .wrong checksum. and was removed"
    ):
        weights.obtain("soundstream", fetch=True)
    assert not list(own_cache.rglob("quantizer*"))
    server.files[name] = body
    assert weights.obtain("soundstream", fetch=True)


def test_a_file_that_is_gone_and_no_network_name_the_folder_as_a_way(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files.clear()
    with pytest.raises(
        WeightsError, match=r"404.*give their folder: codecbench weights get soundstream --from FOLDER"
    ):
        weights.obtain("soundstream", fetch=True)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    release = weights.get("soundstream")
    files = tuple(dataclasses.replace(file, url=f"http://127.0.0.1:{port}/x") for file in release.files)
    monkeypatch.setitem(catalogue._RELEASES, "soundstream", dataclasses.replace(release, files=files))
    with pytest.raises(WeightsError, match=r"no connection, ConnectionError.*--from FOLDER"):
        weights.obtain("soundstream", fetch=True)


def test_the_catalogue_is_complete() -> None:
    for name in weights.available():
        release: Release = weights.get(name)
        assert release.size == sum(file.size for file in release.files)
        assert len(release.content_hash) == 64
        for file in release.files:
            assert len(file.sha256) == 64
            assert file.url.startswith("https://")
            assert file.url.endswith(file.name)
