import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile

from experiments import data
from experiments.data.corpus import DataError
from experiments.data.sources import openslr
from experiments.data.sources import registry as corpora

RATE = 16_000


class Server:
    """A local HTTP server that knows ranges, counts requests, and can hang up in the middle of a body."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.hang_up_after: list[int] = []
        self.ranges = True
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                outer.requests.append((self.path, wanted))
                body = outer.files.get(self.path)
                if body is None:
                    self.send_error(404)
                    return
                start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and outer.ranges else 0
                if start >= len(body):
                    self.send_error(416)
                    return
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(body) - start))
                self.end_headers()
                stop = start + outer.hang_up_after.pop(0) if outer.hang_up_after else len(body)
                self.wfile.write(body[start:stop])

            def log_message(self, *_: object) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


def archive(corpus: str, subset: str, speakers: int) -> bytes:
    packed = io.BytesIO()
    random = np.random.default_rng(len(subset))
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for speaker in range(speakers):
            sound = io.BytesIO()
            soundfile.write(sound, 0.1 * random.standard_normal(RATE // 2), RATE, format="FLAC")
            info = tarfile.TarInfo(f"{corpus}/{subset}/{subset}{speaker}/7/{speaker}-7-0000.flac")
            info.size = len(sound.getvalue())
            tar.addfile(info, io.BytesIO(sound.getvalue()))
        readme = tarfile.TarInfo(f"{corpus}/README.TXT")
        tar.addfile(readme, io.BytesIO())
    return packed.getvalue()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    sums = {}
    for subset, speakers in (("train-clean-100", 4), ("dev-clean", 6), ("test-clean", 3)):
        body = archive("LibriSpeech", subset, speakers)
        server.files[f"/12/{subset}.tar.gz"] = body
        sums[subset] = hashlib.sha256(body).hexdigest()
    monkeypatch.setitem(openslr.CHECKSUMS, "librispeech", sums)
    monkeypatch.setenv("CODECBENCH_MIRROR", server.url)
    monkeypatch.setattr(openslr, "PATIENCE", 0.0)
    monkeypatch.setattr(openslr, "CHUNK", 500)
    yield server
    server.close()


def test_subsets_are_downloaded_once_and_become_the_splits(server: Server, tmp_path: Path) -> None:
    seen: list[str] = []
    shards = data.prepare(
        "librispeech", sample_rate=RATE, cache=tmp_path, progress=lambda stage, *_: seen.append(stage)
    )
    assert shards.licence == "CC BY 4.0"
    assert not shards.synthetic
    assert len(shards.split("train")) == 4
    assert shards.split("test").names[0] == "test-clean/test-clean0/7/0-7-0000.flac"
    assert shards.split("test").speakers == ["test-clean0", "test-clean1", "test-clean2"]
    assert "downloading dev-clean.tar.gz (MiB)" in seen
    count = len(server.requests)
    data.prepare("librispeech", sample_rate=8_000, cache=tmp_path)
    data.prepare("librispeech", sample_rate=RATE, cache=tmp_path)
    assert len(server.requests) == count == 3


def test_without_a_train_subset_dev_speakers_train(server: Server, tmp_path: Path) -> None:
    shards = data.prepare("librispeech:dev-clean,test-clean", sample_rate=RATE, cache=tmp_path)
    speakers = [set(shards.split(split).speakers) for split in ("train", "validation")]
    assert not speakers[0] & speakers[1]
    assert len(speakers[0] | speakers[1]) == 6
    assert len(shards.split("test")) == 3


def test_a_subset_of_the_other_corpus_is_the_test_set(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums = {}
    for subset, speakers in (("train-clean-100", 2), ("dev-clean", 3)):
        body = archive("LibriTTS", subset, speakers)
        server.files[f"/60/{subset}.tar.gz"] = body
        sums[subset] = hashlib.sha256(body).hexdigest()
    monkeypatch.setitem(openslr.CHECKSUMS, "libritts", sums)
    spec = "libritts:train-clean-100,dev-clean,librispeech/test-clean"
    shards = data.prepare(spec, sample_rate=RATE, cache=tmp_path)
    assert {asked for asked, _ in server.requests} == {
        "/60/train-clean-100.tar.gz",
        "/60/dev-clean.tar.gz",
        "/12/test-clean.tar.gz",
    }
    assert shards.split("train").names[0].startswith("train-clean-100/")
    test = shards.split("test")
    assert test.names[0] == "librispeech/test-clean/test-clean0/7/0-7-0000.flac"
    assert test.speakers == ["test-clean0", "test-clean1", "test-clean2"]
    alone = corpora.parse("libritts:dev-clean")
    assert corpora.parse("libritts:libritts/dev-clean").fingerprint() == alone.fingerprint()
    with pytest.raises(DataError, match=r"libritts has no subset 'librispeech/test-claen'; did you mean"):
        corpora.parse("libritts:librispeech/test-claen")
    with pytest.raises(DataError, match="known: librispeech, libritts"):
        corpora.parse("libritts:vctk/all")


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_connection_is_resumed(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.ranges = ranges
    server.hang_up_after = [1000]
    body = server.files["/12/test-clean.tar.gz"]
    target = tmp_path / "t.tar.gz"
    openslr.download(f"{server.url}/12/test-clean.tar.gz", target, hashlib.sha256(body).hexdigest())
    assert target.read_bytes() == body
    assert server.requests[1][1] == "bytes=1000-"


def test_an_interrupted_download_goes_on_in_the_next_run(server: Server, tmp_path: Path) -> None:
    body = server.files["/12/test-clean.tar.gz"]
    (tmp_path / "t.tar.gz.part").write_bytes(body[:5000])
    openslr.download(
        f"{server.url}/12/test-clean.tar.gz", tmp_path / "t.tar.gz", hashlib.sha256(body).hexdigest()
    )
    assert server.requests == [("/12/test-clean.tar.gz", "bytes=5000-")]
    assert (tmp_path / "t.tar.gz").read_bytes() == body


def test_a_wrong_checksum_is_refused_and_removed(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="wrong checksum"):
        openslr.download(f"{server.url}/12/test-clean.tar.gz", tmp_path / "t.tar.gz", "0" * 64)
    assert not list(tmp_path.iterdir())


def test_without_a_network_the_message_says_what_to_do(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODECBENCH_MIRROR", "http://127.0.0.1:9")
    with pytest.raises(
        DataError, match=r"cannot download .*train-clean-100.*Remedy: run again.*demo or folder"
    ):
        data.prepare("librispeech", sample_rate=RATE, cache=tmp_path)
    monkeypatch.setenv("CODECBENCH_MIRROR", server.url + "/elsewhere")
    with pytest.raises(DataError, match="404"):
        data.prepare("librispeech", sample_rate=RATE, cache=tmp_path)


def test_an_archive_put_there_by_hand_is_used(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "downloads" / "librispeech"
    folder.mkdir(parents=True)
    for subset in openslr.DEFAULT_SUBSETS:
        (folder / f"{subset}.tar.gz").write_bytes(server.files[f"/12/{subset}.tar.gz"])
    data.prepare("librispeech", sample_rate=RATE, cache=tmp_path)
    assert not server.requests


def test_unknown_subsets_are_named() -> None:
    with pytest.raises(DataError, match=r"no subset 'dev-claen'; did you mean 'dev-clean'\?"):
        corpora.parse("libritts:dev-claen")
    assert len(corpora.parse("libritts:dev-clean, test-clean").fingerprint()) == 64
