"""What Prometheus can ask: cycles, upstream calls, requests, ages and readiness."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
"""The media type of `Metrics.render`."""

_LABEL_VALUES = 100
_REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_UPSTREAM_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """All metrics of one process, on a registry of its own.

    Args:
        version: The version of the service, shown as `papertape_build_info`.
        now: Seconds since the epoch; ages are computed from it when they are asked for.
    """

    def __init__(self, version: str, now: Callable[[], float] = time.time) -> None:
        self._registry = CollectorRegistry()
        self._now = now
        self._last_cycle_at: float | None = None
        self._model_trained_at: float | None = None
        self._label_values: dict[str, set[str]] = {}
        Info("papertape_build", "The version that runs.", registry=self._registry).info({"version": version})
        self._define_work()
        self._define_requests()
        self._define_gauges()

    def _define_work(self) -> None:
        registry = self._registry
        self._cycles = Counter(
            "papertape_cycles", "Cycles by how they ended.", ["outcome", "reason_code"], registry=registry
        )
        self._cycle_seconds = Histogram(
            "papertape_cycle_duration_seconds", "How long cycles took.", buckets=_UPSTREAM_BUCKETS, registry=registry
        )
        self._upstream = Counter(
            "papertape_upstream_calls", "Calls to the exchange.", ["endpoint", "outcome"], registry=registry
        )
        self._upstream_seconds = Histogram(
            "papertape_upstream_duration_seconds",
            "How long calls to the exchange took.",
            ["endpoint"],
            buckets=_UPSTREAM_BUCKETS,
            registry=registry,
        )

        self._scored = Counter(
            "papertape_scored_decisions", "Decisions whose labels settled and were scored.", registry=registry
        )

    def _define_requests(self) -> None:
        self._requests = Counter(
            "papertape_http_requests",
            "HTTP requests by route, method and status.",
            ["route", "method", "status"],
            registry=self._registry,
        )
        self._request_seconds = Histogram(
            "papertape_http_request_duration_seconds",
            "How long HTTP requests took.",
            ["route", "method"],
            buckets=_REQUEST_BUCKETS,
            registry=self._registry,
        )

    def _define_gauges(self) -> None:
        registry = self._registry
        self._ready = Gauge("papertape_ready", "1 while every readiness check passes, else 0.", registry=registry)
        Gauge(
            "papertape_last_cycle_age_seconds",
            "Time since the last cycle ended; NaN before the first.",
            registry=registry,
        ).set_function(lambda: self._age(self._last_cycle_at))
        Gauge(
            "papertape_model_age_seconds", "Time since the model was trained; NaN without one.", registry=registry
        ).set_function(lambda: self._age(self._model_trained_at))

        self._drift = Gauge(
            "papertape_drift_score",
            "How far each input and prediction has moved from the training; above 2 it has drifted.",
            ["value"],
            registry=registry,
        )
        self._doubted = Gauge(
            "papertape_model_doubted",
            "1 while the model is not traded on (drift, age, losses), else 0.",
            registry=registry,
        )
        self._live_log_loss = Gauge(
            "papertape_live_log_loss",
            "Mean log-loss of each model's decisions that have settled.",
            ["model_id"],
            registry=registry,
        )

    def observe_cycle(self, outcome: str, reason_code: str, seconds: float) -> None:
        """Count a finished cycle.

        Args:
            outcome: How it ended, such as "FILLED", "SKIPPED" or "REFUSED".
            reason_code: Why, in snake_case.
            seconds: How long it took.
        """
        self._cycles.labels(self._bounded("outcome", outcome), self._bounded("reason_code", reason_code)).inc()
        self._cycle_seconds.observe(seconds)
        self._last_cycle_at = self._now()

    def observe_upstream(self, endpoint: str, outcome: str, seconds: float) -> None:
        """Count a call to the exchange: its `endpoint` (such as "klines"), "ok" or an error code, and its time."""
        name = self._bounded("endpoint", endpoint)
        self._upstream.labels(name, self._bounded("upstream_outcome", outcome)).inc()
        self._upstream_seconds.labels(name).observe(seconds)

    def observe_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an HTTP request; `route` is the template, such as "/jobs/{job_id}"."""
        self._requests.labels(route, method, str(status)).inc()
        self._request_seconds.labels(route, method).observe(seconds)

    def observe_scores(self, count: int, log_loss_of_models: Mapping[str, float]) -> None:
        """Count `count` newly scored decisions, and show the mean log-loss of these models and of no others."""
        self._scored.inc(count)
        self._live_log_loss.clear()
        for model_id, log_loss in log_loss_of_models.items():
            self._live_log_loss.labels(model_id).set(log_loss)

    def set_drift(self, scores: Mapping[str, float], *, doubted: bool) -> None:
        """Show the drift scores of the model in use, and whether it is not traded on at present."""
        self._drift.clear()
        for value, score in scores.items():
            self._drift.labels(value).set(score)
        self._doubted.set(1 if doubted else 0)

    def set_model(self, trained_at: datetime | None) -> None:
        """Say when (aware UTC) the model in use was trained, or that there is none."""
        self._model_trained_at = trained_at.timestamp() if trained_at else None

    def set_last_cycle(self, finished_at: datetime | None) -> None:
        """Say when (aware UTC) the last recorded cycle ended, for a start that continues older books."""
        self._last_cycle_at = finished_at.timestamp() if finished_at else None

    def set_ready(self, *, ready: bool) -> None:
        """Say whether every readiness check passes."""
        self._ready.set(1 if ready else 0)

    def render(self) -> bytes:
        """All metrics in Prometheus' text format, of media type `CONTENT_TYPE`."""
        return generate_latest(self._registry)

    def _age(self, moment: float | None) -> float:
        return float("nan") if moment is None else max(0.0, self._now() - moment)

    def _bounded(self, label: str, value: str) -> str:
        """The value itself, or "other" once a label has had `_LABEL_VALUES` different ones."""
        known = self._label_values.setdefault(label, set())
        if value in known or len(known) < _LABEL_VALUES:
            known.add(value)
            return value
        return "other"
