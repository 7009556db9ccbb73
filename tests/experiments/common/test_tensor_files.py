import os
import pickle
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from experiments.common import tensor_files
from experiments.common.tensor_files import DamagedFile

TENSORS = {
    "weight": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "step": torch.tensor(7),
    "flags": torch.tensor([True, False]),
    "none": torch.zeros(0, 4),
}
METADATA = {"progress": '{"step": 7}'}


def same(tensors: dict[str, torch.Tensor]) -> bool:
    return tensors.keys() == TENSORS.keys() and all(
        value.dtype == TENSORS[name].dtype and torch.equal(value, TENSORS[name])
        for name, value in tensors.items()
    )


def test_what_was_written_is_read(tmp_path: Path) -> None:
    tensor_files.write(tmp_path / "new" / "file", TENSORS, METADATA)
    tensors, metadata = tensor_files.read(tmp_path / "new" / "file")
    assert same(tensors)
    assert metadata == METADATA
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


def test_a_flipped_bit_anywhere_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    tensor_files.write(path, TENSORS, METADATA)
    content, unnoticed = path.read_bytes(), 0
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        try:
            tensors, metadata = tensor_files.read(path)
        except DamagedFile:
            continue
        unnoticed += 1
        assert same(tensors), place
        assert metadata["progress"] == METADATA["progress"], place
    assert unnoticed < 0.05 * len(content)  # spaces, and the name of the digest


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"\xff" * 100, b"{}", pickle.dumps({"a": 1})])
def test_what_is_no_such_file_is_damaged(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DamagedFile, match="file is damaged"):
        tensor_files.read(tmp_path / "file")


class _Marker:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.path),))


def test_nothing_pickled_is_executed(tmp_path: Path) -> None:
    for name, content in {
        "pickle": pickle.dumps(_Marker(tmp_path / "executed")),
        "torch": b"",
    }.items():
        (tmp_path / name).write_bytes(content)
    torch.save(_Marker(tmp_path / "executed"), tmp_path / "torch")
    for name in ("pickle", "torch"):
        with pytest.raises(DamagedFile):
            tensor_files.read(tmp_path / name)
    assert not (tmp_path / "executed").exists()


def test_a_file_from_before_there_were_digests_is_taken(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "file", METADATA)
    tensors, metadata = tensor_files.read(tmp_path / "file")
    assert same(tensors)
    assert metadata == METADATA


def test_what_cannot_be_read_is_not_told_as_damage(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        tensor_files.read(tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        tensor_files.read(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_others_may_read_a_file_as_the_mask_says(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    tensor_files.write(tmp_path / "file", TENSORS, METADATA)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "file")]
    assert modes[0] == modes[1]


def test_weights_are_told_from_other_files_by_their_first_bytes(tmp_path: Path) -> None:
    tensor_files.write(tmp_path / "good.safetensors", TENSORS, METADATA)
    torch.save({"state_dict": {}}, tmp_path / "new.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    for name in ("good.safetensors", "new.ckpt", "old.ckpt"):
        assert tensor_files.fault_of_format(tmp_path / name) == ""
    whole = (tmp_path / "good.safetensors").read_bytes()
    contents = {"text.safetensors": b"hello, world\n", "text.ckpt": b"hello", "cut.safetensors": whole[:40]}
    contents |= {"empty.ckpt": b"", "empty.safetensors": b""}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    expected = {
        "text.safetensors": "no safetensors file",
        "cut.safetensors": "only a part of one",
        "text.ckpt": "not a file of torch.save",
        "empty.ckpt": "it is empty",
        "empty.safetensors": "it is empty",
        "missing.ckpt": "not there",
        ".": "not a file",
    }
    for name, words in expected.items():
        assert words in tensor_files.fault_of_format(tmp_path / name), name
