"""The model: its card, its predictions, its training, and the jobs that long work runs in."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response

from app.api import models, schemas, track_record
from app.api.deps import IdempotencyHeader, RunningService, no_body
from app.api.problems import documented
from app.api.requests import CandlesRequest, PredictRequest, to_candle
from app.api.routes.trading import REPLAYED_HEADER
from app.api.strict import StrictRoute
from app.domain.job import Job
from app.domain.model import Model
from app.domain.signal import Prediction
from app.errors import ServiceError

router = APIRouter(route_class=StrictRoute)


@router.get(
    "/model",
    tags=["model"],
    operation_id="get_model",
    summary="Show the model's card",
    response_model=schemas.ModelCard,
    response_description="The card: features in order, classes, training window, label rule, metrics and versions.",
    responses=documented(503),
)
async def get_model(service: RunningService) -> dict[str, Any]:
    """What the model in use was trained on, and how it did."""
    return dict(service.model_card())


@router.get(
    "/model/track-record",
    tags=["model"],
    operation_id="get_track_record",
    summary="Show how the decisions came out",
    response_model=track_record.TrackRecordList,
    response_description="A record for each model, the newest model first; none before the first label has settled.",
    responses=documented(503),
)
async def get_track_record(
    service: RunningService,
    model_id: Annotated[
        str | None,
        Query(pattern=r"^[A-Za-z0-9._-]{1,128}$", description="Only the decisions of this model."),
    ] = None,
) -> dict[str, Any]:
    """Hold the newest 10,000 decisions of the live model, and of those before it, against what came true.

    A decision is scored about a minute after the candle at the model's horizon has closed. A closed candle counts
    once for each model, however often it was asked about.
    """
    return {"items": list(await service.track_record(model_id))}


JOB_ID = Path(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="The job's id.")
MODEL_ID = Path(pattern=r"^[A-Za-z0-9._-]{1,128}$", description="The model's id.")


@router.get(
    "/models",
    tags=["model"],
    operation_id="list_models",
    summary="List the models",
    response_model=models.ModelList,
    responses=documented(503),
)
async def list_models(
    service: RunningService, limit: Annotated[int, Query(ge=1, le=1_000, description="How many at most.")] = 100
) -> dict[str, Any]:
    """Every model that was trained or found on this market, newest first, and in any case the one in use."""
    return {"items": list(await service.list_models(limit))}


@router.post(
    "/models/rollback",
    tags=["model"],
    operation_id="roll_back_model",
    summary="Go back to the former model",
    dependencies=[Depends(no_body)],
    response_model=models.Model,
    responses=documented(404, 409, writes=True),
)
async def roll_back_model(service: RunningService) -> Model:
    """Take the model into use again that was before the present one; asked twice, it goes forth again."""
    return await service.roll_back_model()


@router.post(
    "/models/{model_id}/activate",
    tags=["model"],
    operation_id="activate_model",
    summary="Take a model into use",
    dependencies=[Depends(no_body)],
    response_model=models.Model,
    responses=documented(404, 409, writes=True),
)
async def activate_model(service: RunningService, model_id: Annotated[str, MODEL_ID]) -> Model:
    """Decide with this model from the next cycle on; it must be what the settings ask for."""
    return await service.activate_model(model_id)


@router.post(
    "/model/predict",
    tags=["model"],
    operation_id="predict",
    summary="Predict a batch",
    response_model=schemas.Predictions,
    responses=documented(writes=True),
)
def predict(service: RunningService, body: PredictRequest) -> dict[str, Any]:
    """Ask the model about candles or about rows of its own inputs; nothing is decided or booked.

    Send either `candles` (closed, oldest first, without a gap; a candle has a prediction where enough others
    come before it) or `feature_rows`. A row that can not be predicted has an `error` of its own.
    """
    if isinstance(body, CandlesRequest):
        results = service.predict_candles([to_candle(row) for row in body.candles])
    else:
        results = service.predict_features(body.feature_rows)
    return {"items": [_row(place, result) for place, result in enumerate(results)]}


def _row(place: int, result: Prediction | ServiceError) -> dict[str, Any]:
    if isinstance(result, ServiceError):
        return {"row": place, "error": result}
    return {"row": place, "prediction": result}


@router.post(
    "/model/train",
    tags=["model"],
    operation_id="train_model",
    summary="Train a new model",
    dependencies=[Depends(no_body)],
    status_code=202,
    response_model=schemas.Job,
    response_description="The training is queued; follow it under `Location`.",
    responses={
        202: {
            "headers": {
                **REPLAYED_HEADER,
                "Location": {"description": "The job's address.", "schema": {"type": "string"}},
            }
        },
        **documented(409, writes=True),
    },
)
async def train_model(service: RunningService, response: Response, key: IdempotencyHeader) -> Job:
    """Train on recent candles, beside everything else; the new model takes over when it is done.

    One training runs at a time; another request meanwhile is refused.
    """
    job, replayed = await service.start_training(key.bind("train"))
    response.headers["Location"] = f"/jobs/{job.id}"
    if replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return job


@router.get(
    "/jobs",
    tags=["jobs"],
    operation_id="list_jobs",
    summary="List jobs",
    response_model=schemas.JobList,
    responses=documented(503),
)
async def list_jobs(
    service: RunningService, limit: Annotated[int, Query(ge=1, le=1_000, description="How many at most.")] = 100
) -> dict[str, Any]:
    """Jobs, newest first."""
    return {"items": list(await service.jobs.list(limit))}


@router.get(
    "/jobs/{job_id}",
    tags=["jobs"],
    operation_id="get_job",
    summary="Get a job",
    response_model=schemas.Job,
    responses=documented(404, 503),
)
async def get_job(service: RunningService, job_id: Annotated[str, JOB_ID]) -> Job:
    """How far a job is, and what came of it."""
    return await service.jobs.get(job_id)


@router.post(
    "/jobs/{job_id}/cancel",
    tags=["jobs"],
    operation_id="cancel_job",
    summary="Cancel a job",
    dependencies=[Depends(no_body)],
    response_model=schemas.Job,
    responses=documented(404, 409, writes=True),
)
async def cancel_job(service: RunningService, job_id: Annotated[str, JOB_ID]) -> Job:
    """End a job before its time; nothing of it is kept, and the model in use stays."""
    return await service.cancel_job(job_id)
