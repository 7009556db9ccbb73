"""Remove runs from a tracking store, with their files and models."""

from contextlib import suppress

from experiments.tracking.client import connect, pages
from experiments.tracking.errors import explained


def remove_run(uri: str, run_id: str) -> None:
    """Delete a run, its artifacts and the models that it put out. MLflow keeps the run's values, as deleted,
    until `mlflow gc`. Raises TrackingError."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    with explained(uri):
        client = connect(uri)
        run = client.get_run(run_id)
        experiments = [str(run.info.experiment_id)]
        condition = f"source_run_id = '{run_id}'"
        models = pages(lambda token: client.search_logged_models(experiments, condition, page_token=token))
        for address in (*(model.artifact_location for model in models), run.info.artifact_uri):
            with suppress(NotImplementedError, FileNotFoundError):  # some stores delete no files
                get_artifact_repository(address, tracking_uri=uri).delete_artifacts()
        for model in models:
            client.delete_logged_model(model.model_id)
        client.delete_run(run_id)
