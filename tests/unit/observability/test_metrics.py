"""Counts, times and ages as Prometheus reads them."""

from __future__ import annotations

from datetime import UTC, datetime

from prometheus_client.parser import text_string_to_metric_families

from app.observability.metrics import Metrics

NOW = datetime(2026, 11, 21, 1, 2, 3, tzinfo=UTC)


def samples(metrics: Metrics) -> dict[str, float]:
    found = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def metrics_at_now() -> Metrics:
    return Metrics("1.2.3", now=NOW.timestamp)


def test_cycles_are_counted_by_outcome_and_reason() -> None:
    metrics = metrics_at_now()

    metrics.observe_cycle("FILLED", "filled", 0.02)
    metrics.observe_cycle("REFUSED", "stale_data", 0.3)
    metrics.observe_cycle("REFUSED", "stale_data", 0.4)

    found = samples(metrics)
    assert found["papertape_cycles_total{outcome=FILLED,reason_code=filled}"] == 1
    assert found["papertape_cycles_total{outcome=REFUSED,reason_code=stale_data}"] == 2
    assert found["papertape_cycle_duration_seconds_bucket{le=0.025}"] == 1
    assert found["papertape_cycle_duration_seconds_count{}"] == 3
    assert found["papertape_last_cycle_age_seconds{}"] == 0


def test_upstream_calls_are_counted_and_timed() -> None:
    metrics = metrics_at_now()

    metrics.observe_upstream("klines", "ok", 0.04)
    metrics.observe_upstream("klines", "upstream_timeout", 10)

    found = samples(metrics)
    assert found["papertape_upstream_calls_total{endpoint=klines,outcome=ok}"] == 1
    assert found["papertape_upstream_calls_total{endpoint=klines,outcome=upstream_timeout}"] == 1
    assert found["papertape_upstream_duration_seconds_count{endpoint=klines}"] == 2


def test_ages_are_computed_when_asked_and_nan_before() -> None:
    seconds = NOW.timestamp()
    metrics = Metrics("1.2.3", now=lambda: seconds)
    before = samples(metrics)

    metrics.set_model(NOW)
    metrics.set_last_cycle(NOW)
    seconds += 90
    after = samples(metrics)

    assert str(before["papertape_model_age_seconds{}"]) == "nan"
    assert str(before["papertape_last_cycle_age_seconds{}"]) == "nan"
    assert after["papertape_model_age_seconds{}"] == 90
    assert after["papertape_last_cycle_age_seconds{}"] == 90
    metrics.set_model(None)
    assert str(samples(metrics)["papertape_model_age_seconds{}"]) == "nan"


def test_scores_are_counted_and_only_the_models_told_last_are_shown() -> None:
    metrics = metrics_at_now()

    metrics.observe_scores(3, {"forest-1": 1.1, "forest-2": 0.9})
    metrics.observe_scores(2, {"forest-2": 1.0})

    found = samples(metrics)
    assert found["papertape_scored_decisions_total{}"] == 5
    shown = {name: value for name, value in found.items() if "live_log_loss" in name}
    assert shown == {"papertape_live_log_loss{model_id=forest-2}": 1.0}


def test_labels_stay_bounded() -> None:
    metrics = metrics_at_now()

    for place in range(500):
        metrics.observe_cycle("REFUSED", f"reason_{place}", 0.1)

    rows = [name for name in samples(metrics) if name.startswith("papertape_cycles_total")]
    assert len(rows) == 101
    assert samples(metrics)["papertape_cycles_total{outcome=REFUSED,reason_code=other}"] == 400


def test_readiness_and_build_are_shown() -> None:
    metrics = metrics_at_now()
    metrics.set_ready(ready=True)

    found = samples(metrics)

    assert found["papertape_ready{}"] == 1
    assert found["papertape_build_info{version=1.2.3}"] == 1


def test_two_instances_do_not_share_counts() -> None:
    first, second = metrics_at_now(), metrics_at_now()

    first.observe_cycle("FILLED", "filled", 0.1)

    assert "papertape_cycles_total{outcome=FILLED,reason_code=filled}" not in samples(second)
