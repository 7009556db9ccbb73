"""Recipes of docs/scaling.md for SLURM and Kubernetes: as far as can be told without a cluster."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deployment.shell import problems

if sys.platform == "win32":
    pytest.skip("the recipes are for Linux", allow_module_level=True)


PAGE = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
SCRIPTS = {
    re.findall(r"--job-name=(\w+)", text)[0]: text for _, text in BLOCKS if text.startswith("#!/bin/bash")
}
OBJECTS = [yaml.safe_load(text) for kind, text in BLOCKS if kind == "yaml" and "apiVersion" in text]

NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
QUANTITY = re.compile(r"\d+(\.\d+)?(m|[kMGTPE]i?)?")
SLURM = {
    "SLURM_JOB_NODELIST": "node[1-2]",
    "SLURM_NNODES": "2",
    "SLURM_CPUS_PER_TASK": "64",
    "SLURM_GPUS_ON_NODE": "8",
    "SLURM_JOB_ID": "4711",
}


def test_the_page_has_the_recipes() -> None:
    assert set(SCRIPTS) == {"study", "libritts"}
    assert [each["kind"] for each in OBJECTS] == ["Job", "RayJob"]


# ---- SLURM -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCRIPTS)
def test_shellcheck_has_nothing_to_say(name: str) -> None:
    assert problems(SCRIPTS[name]) == []


def test_shellcheck_would_see_a_fault() -> None:
    remarks = problems("#!/bin/bash\nstudy=$1\nrm -r $study/*\n")
    assert {remark["code"] for remark in remarks} >= {2086}


@pytest.mark.parametrize("name", SCRIPTS)
def test_options_of_sbatch_are_at_the_top_and_known(name: str) -> None:
    lines = SCRIPTS[name].splitlines()
    asked = [line for line in lines if line.startswith("#SBATCH")]
    assert lines[1 : 1 + len(asked)] == asked  # later ones would be comments
    options = [word for line in asked for word in line.split(" # ")[0].split()[1:] if word != "#"]
    values = "job-name|nodes|ntasks-per-node|gpus-per-node|cpus-per-task|time|signal"
    known = rf"--({values})=\S+|--(exclusive|requeue)"
    assert all(re.fullmatch(known, option) for option in options if option.startswith("--")), options


def dry_run(name: str, folder: Path, expected: int, nodes: str = "2", end: bool = False) -> list[str]:
    """Run a script with programs in place of those of a cluster. The lines that these were called by.

    expected: how many there will be.
    end: whether SLURM announces the end of the time limit while the study runs.
    """
    calls = folder / "calls"
    programs = folder / "bin"
    programs.mkdir(parents=True)
    (folder / "script").write_text(SCRIPTS[name])
    note = f'echo "$(basename "$0") $*" >> {calls}\n'
    study = "codecbench" if name == "study" else "srun"
    works = f"trap 'echo saved >> {calls}; exit 130' TERM\ntouch {folder}/works\n" + (
        "while :; do command sleep 0.05; done\n" if end else ""
    )
    for program in ("srun", "ray", "codecbench", "scontrol", "sleep"):
        body = note if program != "sleep" else ""
        if program == study:
            body += works.replace("command sleep", "/usr/bin/env -i /bin/sleep")
        if program == "scontrol":
            body += '[ "$1" = show ] && printf "node1\\nnode2\\n"\nexit 0\n'
        (programs / program).write_text("#!/bin/bash\n" + body)
        (programs / program).chmod(0o755)
    environment = {**os.environ, **SLURM, "SLURM_NNODES": nodes, "PATH": f"{programs}:{os.environ['PATH']}"}
    with subprocess.Popen(["bash", "script"], cwd=folder, env=environment) as process:
        if end:
            deadline = time.monotonic() + 30
            while not (folder / "works").exists():
                assert time.monotonic() < deadline
                time.sleep(0.02)
            time.sleep(0.2)  # until the script waits, its trap being set
            process.send_signal(signal.SIGTERM)
        process.wait(60)
    # What the script started beside itself may write its line after the script has ended.
    deadline = time.monotonic() + 30
    while len(lines := calls.read_text().splitlines()) < expected and time.monotonic() < deadline:
        time.sleep(0.02)
    return lines


def test_ray_starts_on_all_machines_and_then_the_study(tmp_path: Path) -> None:
    calls = dry_run("study", tmp_path, 4)
    [head] = [line for line in calls if "--head" in line]
    [others] = [line for line in calls if "ray start --address" in line]
    [study] = [line for line in calls if line.startswith("codecbench")]
    resources = "--num-cpus 64 --num-gpus 8 --disable-usage-stats --block"
    assert head == f"srun --nodes=1 --ntasks=1 -w node1 ray start --head --port=6379 {resources}"
    assert others == f"srun --nodes=1 --ntasks=1 --exclude=node1 ray start --address=node1:6379 {resources}"
    assert study.startswith("codecbench run study.yaml --executor ray --address node1:6379 ")


def test_one_machine_has_no_others(tmp_path: Path) -> None:
    calls = dry_run("study", tmp_path, 3, nodes="1")
    assert sorted(line.split()[0] for line in calls) == ["codecbench", "scontrol", "srun"]


def test_the_training_is_one_torchrun_per_machine(tmp_path: Path) -> None:
    _, call = dry_run("libritts", tmp_path, 2)
    assert call.startswith("srun torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d ")
    assert "--rdzv-endpoint node1:29500 --rdzv-id 4711 --module experiments.cli train libritts.yaml" in call


@pytest.mark.parametrize("name", SCRIPTS)
def test_states_are_saved_before_the_time_is_up(name: str, tmp_path: Path) -> None:
    calls = dry_run(name, tmp_path, {"study": 5, "libritts": 4}[name], end=True)
    saved = calls.index("saved")
    assert ("scontrol requeue 4711" in calls[saved:]) == (name == "libritts")


# ---- Kubernetes ------------------------------------------------------------------------------------------


def pods(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Templates of all pods of a Job or RayJob."""
    spec = manifest["spec"]
    if manifest["kind"] == "Job":
        return [spec["template"]]
    cluster = spec["rayClusterSpec"]
    return [group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


@pytest.mark.parametrize("manifest", OBJECTS, ids=lambda manifest: manifest["kind"])
def test_pods_have_what_they_must(manifest: dict[str, Any]) -> None:
    versions = {"Job": "batch/v1", "RayJob": "ray.io/v1"}
    assert manifest["apiVersion"] == versions[manifest["kind"]]
    assert NAME.fullmatch(manifest["metadata"]["name"])
    for pod in pods(manifest):
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        for volume in volumes.values():
            assert len(volume) == 2
            assert {"persistentVolumeClaim", "emptyDir"} & volume.keys()
        for container in pod["spec"]["containers"]:
            assert NAME.fullmatch(container["name"])
            assert re.fullmatch(r"[\w.\-/]+:[\w.\-]+", container["image"])
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes.keys()
            assert all(mount["mountPath"].startswith("/") for mount in container["volumeMounts"])
            for variable in container["env"]:
                assert variable.keys() == {"name", "value"}
                assert isinstance(variable["value"], str)  # a number is refused
            for amount in container["resources"]["limits"].values():
                assert isinstance(amount, str)
                assert QUANTITY.fullmatch(amount)


def test_a_pod_that_was_evicted_is_started_again() -> None:
    job = OBJECTS[0]["spec"]
    assert job["template"]["spec"]["restartPolicy"] in ("OnFailure", "Never")  # Always is refused in a Job
    assert job["backoffLimit"] > 6


def test_groups_of_ray_are_whole() -> None:
    cluster = OBJECTS[1]["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    for group in cluster["workerGroupSpecs"]:
        assert NAME.fullmatch(group["groupName"])
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_commands_are_those_of_codecbench(tmp_path: Path) -> None:
    import typer

    from experiments import cli

    arguments = OBJECTS[0]["spec"]["template"]["spec"]["containers"][0]["args"]
    entry = OBJECTS[1]["spec"]["entrypoint"].split()
    assert entry[0] == "codecbench"
    for words in (arguments, entry[1:]):
        command: Any = typer.main.get_command(cli.app).commands[words[0]]
        context = command.make_context("run", list(words[1:]), resilient_parsing=True)
        [runs] = [each.name for each in command.params if "--runs" in each.opts]
        assert str(context.params[runs]) == "/shared/runs"
        options = {option for each in command.params for option in each.opts}
        assert {word for word in words if word.startswith("--")} <= options
