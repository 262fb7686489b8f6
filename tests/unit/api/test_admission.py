"""Wrong keys are counted per address, for a minute, in bounded memory."""

from __future__ import annotations

from app.api.admission import GUESS_WINDOW_SECONDS, MAXIMUM_GUESSES, GuessLimiter


class Time:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_limiter_waits_only_after_the_tenth_wrong_key() -> None:
    time = Time()
    limiter = GuessLimiter(time)

    for _ in range(MAXIMUM_GUESSES):
        assert limiter.wait_seconds("a") == 0
        limiter.note("a")

    assert limiter.wait_seconds("a") == GUESS_WINDOW_SECONDS
    assert limiter.wait_seconds("b") == 0


def test_limiter_window_slides() -> None:
    time = Time()
    limiter = GuessLimiter(time)
    for _ in range(MAXIMUM_GUESSES):
        limiter.note("a")
        time.seconds += 3

    assert limiter.wait_seconds("a") == 30
    time.seconds += 30
    assert limiter.wait_seconds("a") == 0
    limiter.note("a")
    assert limiter.wait_seconds("a") == 3


def test_limiter_remembers_a_bounded_number_of_addresses() -> None:
    limiter = GuessLimiter(Time())
    for _ in range(MAXIMUM_GUESSES):
        limiter.note("first")

    for place in range(5_000):
        limiter.note(f"address-{place}")

    assert limiter.wait_seconds("first") == 0
    assert len(limiter._guesses) == 1_024
