"""Addresses of artifacts: which are folders of this machine, and where these may be now."""

from pathlib import Path

import pytest

from experiments.tracking.places import candidates, current, local_folder


@pytest.mark.parametrize(
    ("address", "folder"),
    [
        ("/data/mlruns/1/r/artifacts", Path("/data/mlruns/1/r/artifacts")),
        ("file:///data/my%20runs/1", Path("/data/my runs/1")),
        ("file:/data/1", Path("/data/1")),
        ("mlruns/1", Path("mlruns/1")),
        ("mlflow-artifacts:/1/r/artifacts", None),
        ("mlflow-artifacts://host/1", None),
        ("s3://bucket/1", None),
        ("gs://bucket/1", None),
        ("dbfs:/1", None),
        ("", None),
    ],
)
def test_only_files_are_folders_of_this_machine(address: str, folder: Path | None) -> None:
    assert local_folder(address) == folder


def test_a_folder_is_looked_for_beside_the_store_by_the_ends_of_its_address(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    address = "/gone/mlruns/1/run/artifacts"
    assert candidates(address, uri)[0] == Path(address)
    assert candidates(address, uri)[-1] == tmp_path / "run" / "artifacts"
    assert current(address, uri) == Path(address)  # nowhere: told as it is
    (tmp_path / "mlruns" / "1" / "run" / "artifacts").mkdir(parents=True)
    assert current(address, uri) == tmp_path / "mlruns" / "1" / "run" / "artifacts"
    assert candidates("s3://bucket/mlruns/1/run/artifacts", uri) == []
    assert current("s3://bucket/mlruns/1/run/artifacts", uri) is None
    assert candidates(address, "http://server:5000") == [Path(address)]
