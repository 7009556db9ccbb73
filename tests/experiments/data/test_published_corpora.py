"""Tiny corpora in the layouts of LibriSpeech, LibriTTS-R, MLS, Emilia and Common Voice, as published."""

import io
import json
import tarfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import soundfile

from experiments import data
from experiments.data.corpus import DataError
from experiments.data.sources import layouts, shard_states
from experiments.data.sources.registry import parse
from experiments.data.streaming import StreamedCrops

pytest.importorskip("webdataset")

RATE = 16_000
CODING = {"mp3": ("MP3", "MPEG_LAYER_III"), "flac": ("FLAC", "PCM_16"), "opus": ("OGG", "OPUS")}
CODING["wav"] = ("WAV", "PCM_16")


def audio(number: int, kind: str) -> bytes:
    noise = 0.1 * np.random.default_rng(number).standard_normal(round(0.4 * RATE) + 160 * (number % 5))
    file = io.BytesIO()
    container, subtype = CODING[kind]
    soundfile.write(file, noise, RATE, format=container, subtype=subtype)
    return file.getvalue()


def librispeech(root: str = "LibriSpeech", mark: str = "-", kind: str = "flac") -> dict[str, bytes]:
    """LibriSpeech: SUBSET/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NNNN.flac with transcripts. LibriTTS: by `_`."""
    files = {f"{root}/SPEAKERS.TXT": b"103 | F | train-clean-100", f"{root}/README.TXT": b""}
    number = 0
    for subset, speakers in (
        ("train-clean-100", (103, 19, 26)),
        ("dev-clean", (84,)),
        ("test-clean", (61, 121)),
    ):
        for speaker in speakers:
            for chapter in (1, 20):
                stem = f"{root}/{subset}/{speaker}/{chapter}/{speaker}{mark}{chapter}{mark}000{number}"
                files[f"{stem}.{kind}"] = audio(number, kind)
                files[f"{stem}.normalized.txt"] = b"words"
                number += 1
    return files


def libritts_r() -> dict[str, bytes]:
    return librispeech("LibriTTS_R", "_", "wav")


def mls(kind: str = "opus") -> dict[str, bytes]:
    """MLS: SPLIT/audio/SPEAKER/BOOK/SPEAKER_BOOK_NNNNNN.opus, transcripts beside."""
    files, number = {}, 0
    for split, speakers in (("train", (252, 1054, 7150)), ("dev", (1844,)), ("test", (2497,))):
        files[f"mls_german/{split}/transcripts.txt"] = b"252_1_000000\twords"
        for speaker in speakers:
            for book in (1, 2):
                name = f"{speaker}/{book}/{speaker}_{book}_{number:06}.{kind}"
                files[f"mls_german/{split}/audio/{name}"] = audio(number, kind)
                number += 1
    return files


def emilia(speakers: int = 12) -> dict[str, bytes]:
    """Emilia: NAME.mp3 and NAME.json, whose `speaker` goes through a recording of the web."""
    files = {}
    for number in range(2 * speakers):
        speaker = f"DE_B00000_S{number // 2:05}"
        stem = f"{speaker}_W{number % 2:06}"
        told = {"id": stem, "wav": f"{stem}.mp3", "text": "Wörter", "duration": 0.4, "speaker": speaker}
        files[f"{stem}.json"] = json.dumps(told).encode()
        files[f"{stem}.mp3"] = audio(number, "mp3")
    return files


def common_voice(with_splits: bool = True) -> dict[str, bytes]:
    """Common Voice: LANGUAGE/clips/*.mp3, and lists with client_id and path."""
    root = "cv-corpus-17.0-2024-03-15/de"
    files: dict[str, bytes] = {}
    lists: dict[str, list[str]] = defaultdict(lambda: ["client_id\tpath\tsentence\tlocale"])
    homes = {"train": range(6), "dev": (6, 7), "test": (8, 9), "other": (10,), "invalidated": (0,)}
    number = 0
    for name, clients in homes.items():
        for client in clients:
            for _ in range(2):
                clip = f"common_voice_de_{number}.mp3"
                files[f"{root}/clips/{clip}"] = audio(number, "mp3")
                row = f'client{client:02}\t{clip}\tEr sagte: "Nein\tde'
                lists[name].append(row)
                if name in ("train", "dev", "test"):
                    lists["validated"].append(row)
                number += 1
    lists["train"].append("client00\tgone.mp3\tx\tde")
    for name, rows in lists.items():
        if with_splits or name not in ("train", "dev", "test"):
            files[f"{root}/{name}.tsv"] = ("\n".join(rows) + "\n").encode()
    return files


def unpacked(root: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def packed(path: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def speakers(shards: data.Shards) -> dict[str, dict[str, int]]:
    """Clips of each speaker of each split."""
    told: dict[str, dict[str, int]] = {}
    for split in ("train", "validation", "test"):
        counts: dict[str, int] = defaultdict(int)
        for speaker in shards.split(split).speakers:
            counts[speaker] += 1
        told[split] = dict(counts)
    return told


def prepared(spec: str, tmp_path: Path) -> data.Shards:
    return data.prepare(spec, sample_rate=RATE, cache=tmp_path / "cache", needed=data.SPLITS)


LIBRI = {"train": {"103": 2, "19": 2, "26": 2}, "validation": {"84": 2}, "test": {"61": 2, "121": 2}}
MLS = {"train": {"252": 2, "1054": 2, "7150": 2}, "validation": {"1844": 2}, "test": {"2497": 2}}
CLIENTS = {
    "train": {f"client{n:02}": 2 for n in range(6)},
    "validation": {"client06": 2, "client07": 2},
    "test": {"client08": 2, "client09": 2},
}
PUBLISHED = {
    "LibriSpeech": (librispeech, LIBRI),
    "LibriTTS-R": (libritts_r, LIBRI),
    "MLS opus": (mls, MLS),
    "MLS flac": (lambda: mls("flac"), MLS),
    "Common Voice": (common_voice, CLIENTS),
}


@pytest.mark.parametrize("kind", ["folder", "tar", "tar.gz"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_speakers_and_splits_are_those_of_the_corpus(name: str, kind: str, tmp_path: Path) -> None:
    make, expected = PUBLISHED[name]
    files = make()
    if kind == "folder":
        spec = f"folder:{unpacked(tmp_path / 'published', files)}"
    else:
        spec = f"tar:{packed(tmp_path / f'published.{kind}', files)}"
    shards = prepared(spec, tmp_path)
    assert speakers(shards) == expected
    # Texts are no failure. What a list names and is not there, and what no list names, is told.
    if name == "Common Voice":
        assert [why for _, why in shards.skipped] == [
            "in train.tsv, but not there",
            "4 files in none of test.tsv, dev.tsv, train.tsv",
        ]
    else:
        assert shards.skipped == []


@pytest.mark.parametrize("below", ["", "LibriSpeech", "LibriSpeech/train-clean-100"])
def test_any_folder_of_it_will_do(below: str, tmp_path: Path) -> None:
    root = unpacked(tmp_path / "published", librispeech())
    shards = prepared(f"folder:{root / below}", tmp_path)
    if "train" in below:
        told = speakers(shards)
        assert {who for split in told.values() for who in split} == {"103", "19", "26"}
        assert all(len(split) == 1 for split in told.values())
    else:
        assert speakers(shards) == LIBRI


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_emilia_is_split_by_the_speakers_of_its_json(kind: str, tmp_path: Path) -> None:
    files = emilia()
    if kind == "folder":
        spec = f"folder:{unpacked(tmp_path / 'DE-B000000', files)}"
    else:
        packed(tmp_path / "DE-B000000.tar", dict(list(files.items())[:24]))
        packed(tmp_path / "DE-B000001.tar", dict(list(files.items())[24:]))
        spec = f"tar:{tmp_path}/DE-B*.tar"
    told = speakers(prepared(spec, tmp_path))
    homes = [who for split in told.values() for who in split]
    assert sorted(homes) == [f"DE_B00000_S{number:05}" for number in range(12)]
    assert all(split and set(split.values()) == {2} for split in told.values())


def test_common_voice_without_splits_is_split_by_client(tmp_path: Path) -> None:
    root = unpacked(tmp_path / "published", common_voice(with_splits=False))
    told = speakers(prepared(f"folder:{root}", tmp_path))
    homes = [who for split in told.values() for who in split]
    assert sorted(homes) == [f"client{number:02}" for number in range(10)]


def test_a_client_of_two_languages_is_in_one_split(tmp_path: Path) -> None:
    german = common_voice()
    french = {name.replace("/de/", "/fr/"): content for name, content in german.items()}
    french[next(n for n in french if n.endswith("train.tsv"))] = german[
        next(n for n in german if n.endswith("dev.tsv"))
    ]
    shards = prepared(f"folder:{unpacked(tmp_path / 'both', german | french)}", tmp_path)
    assert speakers(shards)["validation"] == {"client06": 4, "client07": 4}
    assert speakers(shards)["train"] == CLIENTS["train"]


def test_a_damaged_list_is_one_message(tmp_path: Path) -> None:
    root = unpacked(tmp_path / "published", common_voice())
    [path] = root.rglob("train.tsv")
    path.write_bytes(path.read_bytes()[:40] + b"\n\xff\xfe\tx.mp3")
    with pytest.raises(DataError, match=r"train\.tsv: not UTF-8 text"):
        parse(f"folder:{root}")


def heard(shards: data.Shards, batch: int = 2, steps: int = 60) -> set[str]:
    crops = shards.training().crops(samples=RATE // 4, batch_size=batch, seed=0)
    assert isinstance(crops, StreamedCrops)
    names = {n for step in range(steps) for n in (crops.batch(step), crops.describe(step))[1].split(", ")}
    assert crops.skipped == 0
    crops.close()
    return names


@pytest.mark.parametrize("kind", ["opus", "flac"])
def test_mls_streams_from_its_one_archive(kind: str, tmp_path: Path) -> None:
    spec = f"tar-stream:{packed(tmp_path / 'mls_german.tar.gz', mls(kind))}"
    shards = prepared(spec, tmp_path)
    assert shards.name == "tar-stream:mls_german.tar.gz"
    assert set(shards.split("validation").speakers) == {"1844"}
    assert set(shards.split("test").speakers) == {"2497"}
    names = heard(shards)
    assert len(names) == 6
    assert all("/train/audio/" in name for name in names)


def test_archives_named_like_splits_are_the_splits(tmp_path: Path) -> None:
    files = libritts_r()
    for subset in ("train-clean-100", "dev-clean", "test-clean"):
        packed(tmp_path / f"{subset}.tar.gz", {n: c for n, c in files.items() if f"/{subset}/" in n})
    shards = prepared(f"tar-stream:{tmp_path}/{{train-clean-100,dev-clean,test-clean}}.tar.gz", tmp_path)
    assert set(shards.split("validation").speakers) == {"84"}
    assert set(shards.split("test").speakers) == {"61", "121"}
    assert len(heard(shards)) == 6


def test_who_is_held_out_of_emilia_does_not_train(tmp_path: Path) -> None:
    files = list(emilia(20).items())
    for number in range(4):  # speakers run over the ends of archives
        packed(tmp_path / f"DE-B{number:06}.tar", dict(files[number * 18 : (number + 1) * 18 + 8]))
    shards = prepared(f"tar-stream:{tmp_path}/DE-B{{000000..000003}}.tar", tmp_path)
    held_out = {name: set(shards.split(name).speakers) for name in ("validation", "test")}
    assert held_out["validation"]
    assert not held_out["validation"] & held_out["test"]
    training = {name.partition("/")[2].partition("_W")[0] for name in heard(shards)}
    assert training
    assert not training & (held_out["validation"] | held_out["test"])
    # With webdataset: a shard is a split, whoever speaks in it.
    by_shard = prepared(f"webdataset:{tmp_path}/DE-B{{000000..000003}}.tar", tmp_path)
    overlap = {name.partition("/")[2].partition("_W")[0] for name in heard(by_shard)}
    assert overlap & {*by_shard.split("validation").speakers, *by_shard.split("test").speakers}
    assert by_shard.content_hash != shards.content_hash


def test_a_stream_of_one_archive_goes_on_at_its_cursor(tmp_path: Path) -> None:
    shards = prepared(f"tar-stream:{packed(tmp_path / 'mls.tar', mls('flac'))}", tmp_path)
    first, again = (shards.training().crops(samples=RATE // 4, batch_size=2, seed=1) for _ in range(2))
    for step in range(40):
        first.batch(step)
    again.seek(json.loads(json.dumps(first.cursor())))
    assert np.array_equal(again.batch(40), first.batch(40))


def test_archives_on_a_server_are_streamed_only() -> None:
    with pytest.raises(DataError, match=r"read twice.*tar-stream"):
        parse("tar:hf://datasets/owner/name/a.tar")


def test_two_archives_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for folder in (tmp_path, tmp_path / "b"):
        packed(folder / "a.tar", emilia(3))
    with pytest.raises(DataError, match=r"two archives are called 'a\.tar'"):
        parse(f"tar:{tmp_path}/{{a,b/a}}.tar")


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("LibriSpeech/dev-other/116/288045/116-288045-0000.flac", ("116", "validation")),
        ("116/288045/116-288045-0000.flac", ("116", "")),
        ("mls_polish/test/audio/6892/10338/6892_10338_000000.opus", ("6892", "test")),
        ("train/a/b/other_name.wav", None),
        ("1/2/12-0.wav", None),
        ("1_2_3.wav", None),
    ],
)
def test_a_path_tells_only_in_those_layouts(name: str, place: tuple[str, str] | None) -> None:
    assert layouts.of_path(name) == place


# ---- shards on web servers -------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[list[str], dict[str, str]]:
    """Requests to a server, and the states that it tells where they are not `1`."""
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path / "cache"))
    requests: list[str] = []
    changed: dict[str, str] = {}

    def state(address: str) -> str:
        requests.append(address)
        return changed.get(address, "1")

    monkeypatch.setattr(shard_states, "_state", state)
    return requests, changed


def test_a_server_is_asked_for_each_shard_once(asked: tuple[list[str], dict[str, str]]) -> None:
    requests, changed = asked
    pattern = "webdataset:https://host/{0000..0999}.tar"
    first = parse(pattern).training_fingerprint
    assert len(requests) == len(set(requests)) == 1000
    requests.clear()
    assert parse(pattern).training_fingerprint == first
    assert len(requests) == shard_states.ASKED_AGAIN
    assert {"https://host/0000.tar", "https://host/0999.tar"} <= set(requests)
    requests.clear()
    changed["https://host/0999.tar"] = "2"  # the corpus was replaced
    assert parse(pattern).training_fingerprint != first
    assert len(requests) == shard_states.ASKED_AGAIN + 1000
    assert not {path.suffix for path in shard_states.cache_directory().rglob("*.*")} - {".json"}


def test_a_damaged_record_is_asked_for_again(asked: tuple[list[str], dict[str, str]]) -> None:
    requests, _ = asked
    addresses = [f"https://host/{number}.tar" for number in range(20)]
    shard_states.states(addresses)
    [record] = (shard_states.cache_directory() / "listings").iterdir()
    record.write_text('["1"')
    requests.clear()
    assert shard_states.states(addresses) == ["1"] * 20
    assert len(requests) == 20
