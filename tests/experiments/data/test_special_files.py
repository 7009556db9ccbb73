"""Names that are no files (pipes, devices, sockets, links, names too long): none is opened, each is told."""

import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from experiments import data
from experiments.data import audio_files
from experiments.data.corpus import DataError
from experiments.data.decoding import read_audio
from experiments.data.sources.registry import parse
from experiments.evaluation.audio_pairs import ClipFiles, match_folders, read_manifest, recordings
from experiments.evaluation.folders import score_pairs
from experiments.evaluation.scores import EvaluationError
from experiments.execution.added_rows import digest_of

RATE = 16_000
pytestmark = pytest.mark.timeout(60)  # what waits for a pipe waits for ever


def speech(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = 0.1 * np.random.default_rng(len(path.name)).standard_normal(RATE)
    soundfile.write(path, noise, RATE)
    return path


def make_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the address of a socket is short
    try:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(path.name)
        listening.close()
    finally:
        os.chdir(here)


def make_link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


SPECIAL: dict[str, tuple[Callable[[Path], None], str]] = {
    "pipe.wav": (os.mkfifo, "a named pipe, not a file"),
    "to-pipe.wav": (make_link("pipe.wav"), "a named pipe, not a file"),
    "zero.wav": (make_link("/dev/zero"), "a device, not a file"),
    "socket.wav": (make_socket, "a socket, not a file"),
    "loop.wav": (make_link("loop.wav"), "a link that leads in a circle"),
    "gone.wav": (make_link("nowhere.wav"), "a link to nothing: No such file or directory"),
    "folder-link.wav": (make_link("."), "a link to a folder, which is not followed"),
}
IN_A_FOLDER = {name: why for name, (_, why) in SPECIAL.items()}
READ = {**IN_A_FOLDER, "folder-link.wav": "a folder, not a file"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four clips, and everything that is none."""
    for name in "abcd":
        speech(tmp_path / "c" / f"{name}.wav")
    for name, (make, _) in SPECIAL.items():
        make(tmp_path / "c" / name)
    return tmp_path / "c"


def test_reading_gives_the_reason(folder: Path) -> None:
    for name, why in READ.items():
        [piece] = read_audio(folder / name, RATE)
        assert (piece.audio, piece.note) == (None, why), name
    for name in ("x" * 255 + ".wav", "a\0b.wav"):
        [piece] = read_audio(folder / name, RATE)
        assert piece.note in ("File name too long", "its name is none that a file can have")


def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audio_files, "problem", lambda path: "")  # it was a file a moment ago
    [piece] = read_audio(folder / "pipe.wav", RATE)
    assert piece.note == "a named pipe, not a file"


def test_folders_list_them(folder: Path, tmp_path: Path) -> None:
    shards = data.prepare(f"folder:{folder}", sample_rate=RATE, cache=tmp_path / "cache")
    assert dict(shards.skipped) == IN_A_FOLDER
    assert "7 files skipped" in shards.summary()


def test_manifests_and_lists_skip_them_and_refuse_what_is_not_there(folder: Path, tmp_path: Path) -> None:
    names = [*(f"{name}.wav" for name in "abcd"), *(name for name in SPECIAL if name != "folder-link.wav")]
    splits = ["train", "train", "validation", "test"] + ["train"] * len(SPECIAL)
    rows = [f"{name},,{split}" for name, split in zip(names, splits, strict=False)]
    (folder / "m.csv").write_text("path,speaker,split\n" + "\n".join(rows))
    (folder / "l.txt").write_text("\n".join(names))
    expected = {name: why for name, why in READ.items() if name in names}
    for spec in (f"manifest:{folder / 'm.csv'}", f"filelist:{folder / 'l.txt'}"):
        shards = data.prepare(spec, sample_rate=RATE, cache=tmp_path / "cache")
        assert dict(shards.skipped) == expected, spec
    for name in ("nowhere.wav", "x" * 255 + ".wav", "folder-link.wav", "."):
        (folder / "l.txt").write_text(f"a.wav\n{name}\n")
        with pytest.raises(DataError, match=r"l\.txt, line 2: .* is not a file.*Remedy"):
            parse(f"filelist:{folder / 'l.txt'}")


@pytest.mark.parametrize(
    "spec",
    [
        "folder:{long}",
        "manifest:{long}",
        "filelist:{long}",
        "webdataset:{long}.tar",
        "manifest:/dev/zero",
        "filelist:/dev/zero",
        "manifest:{folder}/pipe.wav",
        "filelist:{folder}/pipe.wav",
        "webdataset:{folder}/pipe.wav",
        "webdataset:train=/dev/zero,validation=/dev/zero,test=/dev/zero",
        "folder:{folder}/loop.wav",
        "folder:{folder}/a.wav",
        "folder:~nobody-at-all/x",
        "manifest:~nobody-at-all/x",
        "webdataset:~nobody-at-all/x",
        "webdataset:{{a,b}}" * 40,
        "webdataset:{{0..99999999999}}.tar",
        "webdataset:" + "{{" * 3_000 + "a,b" + "}}" * 3_000,
    ],
)
def test_a_corpus_that_is_none_is_one_message(folder: Path, spec: str) -> None:
    with pytest.raises(DataError) as caught:
        parse(spec.format(long="/" + "a" * 5_000, folder=folder))
    assert len(str(caught.value)) < 6_000


def test_wildcards_leave_out_what_is_no_shard(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    import tarfile

    for number in range(3):
        with tarfile.open(folder / f"{number}.tar", "w") as tar:
            tar.add(folder / "a.wav", f"a{number}.wav")
    os.mkfifo(folder / "pipe.tar")
    shards = data.prepare(f"webdataset:{folder}/*.tar", sample_rate=RATE, cache=tmp_path / "cache")
    assert shards.skipped == [("pipe.tar", "a named pipe, not a file")]
    assert "train streamed from 1 shards" in shards.summary()


def test_evaluation_says_what_is_wrong_with_each(folder: Path, tmp_path: Path) -> None:
    pairs = match_folders(folder, folder)
    assert "folder-link.wav: a link to a folder, which is not followed" in " ".join(pairs.left_out)
    assert sorted(pairs.references) == sorted(
        [*"abcd", *(Path(name).stem for name in SPECIAL if name != "folder-link.wav")]
    )
    frame = score_pairs(pairs, ["mel_distance"]).set_index("utterance")
    status = frame["status"].to_dict()
    for name in "abcd":
        assert status.pop(name) == "ok"
    assert status == {
        Path(name).stem: f"cannot be read: {why}" for name, why in READ.items() if name != "folder-link.wav"
    }
    listed = tmp_path / "pairs.csv"
    listed.write_text(f"reference,reconstruction\n.,.\nnowhere.wav,a.wav\n{'x' * 255}.wav,a.wav\n")
    frame = score_pairs(read_manifest(listed, folder, folder), ["mel_distance"])
    assert list(frame["status"]) == [
        "cannot be read: a folder, not a file",
        "cannot be read: No such file or directory",
        "cannot be read: File name too long",
    ]
    for wrong in (Path("/dev/zero"), folder / "pipe.wav", folder, folder / "loop.wav"):
        with pytest.raises(EvaluationError, match=r"device|pipe|folder|circle"):
            read_manifest(wrong, folder, folder)
    for wrong in (folder / "a.wav", folder / "gone.wav", folder / "nowhere", Path("/" + "a" * 5_000)):
        with pytest.raises(EvaluationError, match=r"not a folder|to nothing|no such folder|too long"):
            recordings(wrong)


@pytest.mark.skipif(os.name == "nt", reason="permissions of another kind")
def test_what_may_not_be_read_has_a_reason(folder: Path) -> None:
    """In a process of a user who is nobody: root may read all."""
    (folder / "secret.wav").write_bytes((folder / "a.wav").read_bytes())
    (folder / "secret.wav").chmod(0)
    (folder / "closed").mkdir()
    speech(folder / "closed" / "e.wav")
    (folder / "closed").chmod(0)
    code = textwrap.dedent("""
        import os, sys
        from pathlib import Path
        import soundfile
        from experiments.data import audio_files, decoding
        folder = Path(sys.argv[1])
        os.chdir(folder)
        if os.geteuid() == 0:
            os.setresuid(65534, 65534, 65534)
        print(*(piece.note for piece in decoding.read_audio(Path("secret.wav"), 16000)))
        print(*(piece.note for piece in decoding.read_audio(Path("closed/e.wav"), 16000)))
        print(*(f"{path}: {why}" for path, why in audio_files.audio_below(Path(".")).left_out), sep="\\n")
    """)
    ran = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True, timeout=60
    )
    (folder / "closed").chmod(0o700)
    lines = ran.stdout.splitlines()
    assert lines[:2] == ["Permission denied"] * 2
    assert "closed: folder not readable: Permission denied" in lines


def test_the_digest_of_recordings_passes_over_what_is_none(folder: Path) -> None:
    """A pipe would be waited for, and a name too long is an error of the system."""
    files = {"a": folder / "a.wav"}
    others = {"pipe": folder / "pipe.wav", "zero": folder / "zero.wav", "long": folder / ("x" * 300)}
    assert digest_of({**files, **others}) != digest_of(files)
    assert digest_of(files) == digest_of({"a": folder / "a.wav"})


def test_linked_files_are_read_as_ever(folder: Path) -> None:
    (folder / "link.wav").symlink_to("a.wav")
    [linked], [whole] = read_audio(folder / "link.wav", RATE), read_audio(folder / "a.wav", RATE)
    assert linked.audio is not None
    np.testing.assert_array_equal(linked.audio, whole.audio)
    np.testing.assert_array_equal(
        ClipFiles(recordings(folder), RATE)["link"], ClipFiles(recordings(folder), RATE)["a"]
    )
