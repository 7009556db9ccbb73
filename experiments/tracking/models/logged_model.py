"""The trained codec as an MLflow model: weights as safetensors, a signature, a link to its run."""

import json
import platform
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.common.flat_keys import flatten
from experiments.common.run_folder import WEIGHTS
from experiments.tracking.client import pages
from experiments.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.models import ModelSignature
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

MODEL_TYPE = "speech codec"
PYFUNC = "experiments.tracking.models.pyfunc_flavor"  # loads models for `mlflow.pyfunc.load_model`
SHOWN = ("quantizer", "backbone.name", "seed", "train.steps", "label")  # what the Models tab tells apart by


def log(store: Store, run_id: str, name: str, weights: Path, config: Mapping[str, Any], step: int) -> str:
    """Log the codec in `weights` as the output of a run at `step`. Its id, also where it is there already.

    config: the resolved run; some of it becomes the model's parameters.
    """
    return store.patiently(lambda: _log(store, run_id, name, weights, config, step))


def fetch(store: Store, run_id: str, folder: Path) -> Path | None:
    """A copy in `folder` of the weights that a run put out, or None when it has none."""
    return store.patiently(lambda: _fetch(store, run_id, folder))


def reject(store: Store, run_id: str) -> None:
    """Take the models that a run put out for unfinished: their files are damaged or gone. `log` writes them
    anew."""

    def finalize() -> None:
        for model in _outputs(store, run_id).values():
            store.client.finalize_logged_model(model.model_id, "FAILED")

    store.patiently(finalize)


def signature() -> "ModelSignature":
    """Audio in, audio out: [clips, samples] float32 on [-1, 1], at the sample rate of the configuration."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    audio = TensorSpec(np.dtype("float32"), (-1, -1), "audio")
    return ModelSignature(inputs=Schema([audio]), outputs=Schema([audio]))


def plain_name(name: str) -> str:
    """`name` with nothing that MLflow refuses in a model's name."""
    return "".join("-" if c in "/:.%\"' " else c for c in name)


def _log(store: Store, run_id: str, name: str, weights: Path, config: Mapping[str, Any], step: int) -> str:
    from mlflow.entities import LoggedModelOutput

    client = store.client
    models = _models(store, run_id)
    ready = [model for model in models if model.status == "READY"]
    unfinished = [model for model in models if model.status != "READY"]
    if ready:
        _remove(store, unfinished)
        return str(ready[0].model_id)
    if unfinished:  # a kill left it: its files are written anew
        model = unfinished.pop(0)
        _remove(store, unfinished)
    else:
        params = {key: value for key, value in flatten(config).items() if key.startswith(SHOWN)}
        model = client.create_logged_model(
            store.experiment_id, plain_name(name), source_run_id=run_id, params=params, model_type=MODEL_TYPE
        )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shutil.copyfile(weights, folder / WEIGHTS)
        _describe(folder, run_id, model.model_id, config)
        client.log_model_artifacts(model.model_id, str(folder))
    if model.model_id not in _outputs(store, run_id):
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step)])
    client.finalize_logged_model(model.model_id, "READY")
    return str(model.model_id)


def _models(store: Store, run_id: str) -> "list[LoggedModel]":
    """Models that were begun for a run: first those that it put out, then the oldest."""
    client = store.client
    put_out = _outputs(store, run_id)
    experiments = sorted({store.experiment_id, str(client.get_run(run_id).info.experiment_id)})
    condition = f"source_run_id = '{run_id}'"
    begun = pages(lambda token: client.search_logged_models(experiments, condition, page_token=token))
    others = [model for model in begun if str(model.model_id) not in put_out]
    return [*put_out.values(), *sorted(others, key=lambda model: model.creation_timestamp)]


def _outputs(store: Store, run_id: str) -> "dict[str, LoggedModel]":
    """Models that a run put out, by id, but for those that were removed since."""
    from mlflow.exceptions import MlflowException

    outputs = store.client.get_run(run_id).outputs
    models: dict[str, LoggedModel] = {}
    for output in outputs.model_outputs if outputs else ():
        try:
            models[str(output.model_id)] = store.client.get_logged_model(str(output.model_id))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
    return models


def _remove(store: Store, models: "list[LoggedModel]") -> None:
    """Remove models that were never finished, with their copies of the weights."""
    for model in models:
        with suppress(Exception):  # some stores delete no files
            _repository(store, model).delete_artifacts()
        store.client.delete_logged_model(model.model_id)


def _ready(store: Store, run_id: str) -> "LoggedModel | None":
    """The model that a run put out, once it is whole."""
    models = _outputs(store, run_id).values()
    return next((model for model in models if model.status == "READY"), None)


def _repository(store: Store, model: "LoggedModel") -> "ArtifactRepository":
    """The files of a model, by their place: `models:/` goes through the registry of MLflow's default store,
    and makes one where there is none."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(model.artifact_location, tracking_uri=store.uri)


def _fetch(store: Store, run_id: str, folder: Path) -> Path | None:
    model = _ready(store, run_id)
    return None if model is None else Path(_repository(store, model).download_artifacts(WEIGHTS, str(folder)))


def _pyfunc() -> dict[str, str]:
    return {"loader_module": PYFUNC, "python_version": platform.python_version()}


def _describe(folder: Path, run_id: str, model_id: str, config: Mapping[str, Any]) -> None:
    """Write `MLmodel`, from which the UI takes the signature, and `mlflow.pyfunc.load_model` its loader."""
    from mlflow.models import Model

    flavor = {"weights": WEIGHTS, "config": json.dumps(config)}
    flavors = {"codecbench": flavor, "python_function": _pyfunc()}
    described = Model(run_id=run_id, signature=signature(), flavors=flavors, model_id=model_id)
    described.save(str(folder / "MLmodel"))
