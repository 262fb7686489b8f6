"""Settings: where they come from, what is refused, and how a refusal reads."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from app.domain.candle import Interval
from app.errors import ConfigurationError
from app.setting_kinds import LogFormat, LogLevel, MarketSource
from app.settings import Settings, load_settings

KEY = "0123456789abcdef"
EVERY_ADDRESS = "0.0.0.0"  # noqa: S104 - what must not be had without a key


@pytest.fixture(autouse=True)
def clean_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to start in, and an environment without any of our variables."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(**overrides: object) -> list[str]:
    """The lines with which the settings refuse."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(**overrides)
    assert caught.value.code == "configuration_invalid"
    return caught.value.message.splitlines()


def test_load_settings_nothing_set_gives_the_documented_defaults() -> None:
    settings = load_settings()
    assert settings.market_source is MarketSource.AUTO
    assert settings.binance_base_url == "https://api.binance.com"
    assert settings.binance_fallback_url == "https://data-api.binance.vision"
    assert settings.default_symbol == "BTCUSDT"
    assert settings.symbols == ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "ADAUSDT")
    assert settings.default_interval is Interval.M1
    assert settings.default_klines_limit == 100
    assert settings.model_threshold_percent == 0.5
    assert settings.initial_cash == Decimal(10_000)
    assert (settings.slippage_bps, settings.fee_bps) == (Decimal(3), Decimal(2))
    assert settings.database_url.get_secret_value() == "sqlite:///./trading.db"
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.api_key is None
    assert settings.cors_origins == ()


def test_load_settings_empty_event_log_file_switches_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().event_log_file == Path("events.jsonl")
    monkeypatch.setenv("EVENT_LOG_FILE", "")
    assert load_settings().event_log_file is None


def test_load_settings_environment_wins_over_env_file(clean_place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (clean_place / ".env").write_text("PORT=9001\nFEE_BPS=7.25\n")
    monkeypatch.setenv("PORT", "9002")
    settings = load_settings()
    assert settings.port == 9002
    assert settings.fee_bps == Decimal("7.25")


def test_load_settings_overrides_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "9002")
    assert load_settings(port=9003, host="::1").port == 9003


def test_load_settings_unknown_name_in_env_file_is_left_alone(clean_place: Path) -> None:
    (clean_place / ".env").write_text("COMPOSE_PROJECT_NAME=papertape\n")
    assert load_settings() == Settings(_env_file=None)


def test_load_settings_env_file_that_is_no_text_is_refused_in_one_line(clean_place: Path) -> None:
    (clean_place / ".env").write_bytes(b"HOST=\xff\xfe\n")
    assert refusal() == [".env: must be UTF-8 text"]


def test_load_settings_commas_make_a_list_without_blanks_and_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYMBOLS", " BTCUSDT, ETHUSDT,,BTCUSDT ")
    monkeypatch.setenv("CORS_ORIGINS", "https://a.example,http://localhost:3000")
    settings = load_settings()
    assert settings.symbols == ("BTCUSDT", "ETHUSDT")
    assert settings.cors_origins == ("https://a.example", "http://localhost:3000")


def test_load_settings_loose_spellings_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "debug")
    monkeypatch.setenv("log_format", "json")
    monkeypatch.setenv("BINANCE_BASE_URL", "http://127.0.0.1:9000/")
    monkeypatch.setenv("BINANCE_FALLBACK_URL", "")
    monkeypatch.setenv("API_KEY", "")
    settings = load_settings()
    assert settings.log_level is LogLevel.DEBUG
    assert settings.log_format is LogFormat.JSON
    assert settings.binance_base_url == "http://127.0.0.1:9000"
    assert settings.binance_fallback_url == ""
    assert settings.api_key is None


# For each setting: what is refused, and a part of the line that says so.
BAD_VALUES = [
    ("MARKET_SOURCE", "kraken", "'auto', 'binance' or 'simulated'"),
    ("BINANCE_BASE_URL", "", "must not be empty"),
    ("BINANCE_BASE_URL", "ftp://api.binance.com", "http:// or https://"),
    ("BINANCE_BASE_URL", "api.binance.com", "http:// or https://"),
    ("BINANCE_FALLBACK_URL", "https://", "http:// or https://"),
    ("SIMULATED_SEED", "-1", "greater than or equal to 0"),
    ("SIMULATED_SEED", "4294967296", "less than or equal to 4294967295"),
    ("DEFAULT_SYMBOL", "btc/usdt", "capital letters and digits"),
    ("SYMBOLS", "BTCUSDT,eth", "capital letters and digits"),
    ("SYMBOLS", "", "must not be empty"),
    ("DEFAULT_INTERVAL", "1w", "'1m', '3m'"),
    ("DEFAULT_KLINES_LIMIT", "60", "greater than or equal to 61"),
    ("DEFAULT_KLINES_LIMIT", "1000", "less than or equal to 999"),
    ("MODEL_PATH", "", "must name a folder"),
    ("MODEL_MAXIMUM_AGE_DAYS", "0", "greater than 0"),
    ("MODEL_THRESHOLD_PERCENT", "0", "greater than 0"),
    ("MODEL_THRESHOLD_PERCENT", "inf", "less than or equal to 50"),
    ("MODEL_HORIZON_BARS", "0", "greater than or equal to 1"),
    ("MODEL_LABEL_RULE", "shift", "'fixed', 'volatility' or 'triple_barrier'"),
    ("MODEL_VOLATILITY_MULTIPLE", "0", "greater than 0"),
    ("MODEL_CLASS_WEIGHT", "heavy", "'none' or 'balanced'"),
    ("MODEL_CALIBRATION", "platt", "'temperature', 'sigmoid' or 'isotonic'"),
    ("TRAINING_SYMBOLS", "btc", "capital letters and digits"),
    ("TRAINING_BACKEND", "spark://somewhere:1", "loky or the address of a Dask scheduler"),
    ("RETRAIN_HOURS", "-1", "greater than or equal to 0"),
    ("REQUIRE_EDGE", "perhaps", "valid boolean"),
    ("REQUIRE_POSITIVE_RETURN", "perhaps", "valid boolean"),
    ("TRAINING_KLINES", "499", "greater than or equal to 500"),
    ("MIN_CONFIDENCE", "60", "less than or equal to 1"),
    ("MIN_CONFIDENCE", "nan", "1"),
    ("INITIAL_CASH", "0", "greater than 0"),
    ("INITIAL_CASH", "NaN", "finite"),
    ("INITIAL_CASH", "0.000000001", "8 decimal places"),
    ("ORDER_CASH_FRACTION", "1.01", "less than or equal to 1"),
    ("RUN_NAME", "My run", "1 to 32 small letters"),
    ("RUN_NAME", "", "1 to 32 small letters"),
    ("SIZING", "martingale", "'fixed_fraction', 'risk_per_trade', 'volatility_target' or 'kelly'"),
    ("RISK_PER_TRADE", "0", "greater than 0"),
    ("VOLATILITY_TARGET", "11", "less than or equal to 10"),
    ("KELLY_CAP", "1.5", "less than or equal to 1"),
    ("STOP_RULE", "hope", "'none', 'stop_loss' or 'trailing_stop'"),
    ("STOP_ATR_MULTIPLE", "0", "greater than 0"),
    ("TAKE_PROFIT_ATR_MULTIPLE", "-1", "greater than or equal to 0"),
    ("ALLOW_SHORT", "perhaps", "valid boolean"),
    ("MAX_SYMBOL_EXPOSURE", "2", "less than or equal to 1"),
    ("MAX_GROSS_EXPOSURE", "-0.1", "greater than or equal to 0"),
    ("MAX_VOLUME_SHARE", "10", "less than or equal to 1"),
    ("MAX_DAILY_LOSS", "5", "less than or equal to 1"),
    ("MAX_DRAWDOWN", "0.12345", "4 decimal places"),
    ("COOLDOWN_LOSSES", "-1", "greater than or equal to 0"),
    ("COOLDOWN_MINUTES", "1.5", "valid integer"),
    ("MAX_TRADES_PER_DAY", "many", "valid integer"),
    ("MAX_OPEN_POSITIONS", "501", "less than or equal to 500"),
    ("PRICE_BAND_PERCENT", "101", "less than or equal to 100"),
    ("SLIPPAGE_BPS", "-1", "greater than or equal to 0"),
    ("FEE_BPS", "two", "valid decimal"),
    ("DATABASE_URL", "postgres://somewhere/trading", "sqlite:/// or postgresql://"),
    ("DATABASE_URL", "sqlite:///", "must name a file"),
    ("DATABASE_URL", "sqlite:///:memory:", "must name a file"),
    ("EVENT_LOG_FILE", "/", "must name a file"),
    ("EVENT_LOG_FILE", "logs/..", "must name a file"),
    ("LOG_LEVEL", "loud", "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
    ("LOG_FORMAT", "xml", "'console' or 'json'"),
    ("HOST", "", "must not be empty"),
    ("PORT", "65536", "less than or equal to 65535"),
    ("PORT", "http", "valid integer"),
    ("API_KEY", "short", "at least 16 characters"),
    ("API_KEY", "a key with spaces in it", "plain ASCII characters without spaces"),
    ("API_KEY", "schlüsselschlüssel", "plain ASCII characters without spaces"),
    ("ALLOW_KEYLESS", "perhaps", "valid boolean"),
    ("ALLOWED_HOSTS", "", "must not be empty"),
    ("ALLOWED_HOSTS", "*", "leave out the port"),
    ("ALLOWED_HOSTS", "localhost:8000", "leave out the port"),
    ("ALLOWED_HOSTS", "::1", "[::1]"),
    ("CORS_ORIGINS", "*", "https://example.org"),
    ("CORS_ORIGINS", "null", "https://example.org"),
    ("CORS_ORIGINS", "https://a.example/path", "https://example.org"),
    ("CORS_ORIGINS", "http://", "https://example.org"),
]


@pytest.mark.parametrize(("name", "value", "words"), BAD_VALUES)
def test_load_settings_bad_value_is_one_line_that_names_the_setting(
    name: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    lines = refusal()
    assert len(lines) == 1
    assert lines[0].startswith(f"{name}: ")
    assert words in lines[0]


def test_bad_values_cover_every_setting() -> None:
    assert {name for name, _, _ in BAD_VALUES} == {name.upper() for name in Settings.model_fields}


def test_load_settings_several_bad_values_are_a_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "http")
    monkeypatch.setenv("FEE_BPS", "-2")
    monkeypatch.setenv("SYMBOLS", "eth,ada")
    assert [line.split(":")[0] for line in refusal()] == ["SYMBOLS", "FEE_BPS", "PORT"]


def test_load_settings_refusal_shows_an_ordinary_value_cut_and_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "80\n\x1b[31m" + "9" * 500)
    line = refusal()[0]
    assert "(it is '80\\n\\x1b[31m999" in line
    assert len(line) < 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_KEY", "hunter2"),
        ("API_KEY", "hunter2 hunter2 hunter2"),
        ("DATABASE_URL", "mysql://papertape:hunter2@db/trading"),
        ("BINANCE_BASE_URL", "https://me:hunter2@proxy.example"),
    ],
)
def test_load_settings_refusal_never_shows_a_secret(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert "hunter2" not in "\n".join(refusal())


def test_settings_repr_shows_no_secret() -> None:
    settings = load_settings(api_key=KEY, database_url="postgresql://papertape:hunter2@db/trading")
    assert KEY not in repr(settings)
    assert "hunter2" not in f"{settings!r} {settings} {settings.model_dump_json()}"


def test_load_settings_default_symbol_outside_symbols_is_refused() -> None:
    assert refusal(default_symbol="DOGEUSDT") == ["DEFAULT_SYMBOL: DOGEUSDT is not among SYMBOLS"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1", "[::1]"])
def test_load_settings_loopback_host_needs_no_key(host: str) -> None:
    settings = load_settings(host=host)
    assert settings.is_loopback
    assert settings.host == host.strip("[]")


@pytest.mark.parametrize(
    "host", [EVERY_ADDRESS, "::", "192.168.1.7", "papertape.example", "127.0.0.1.example.org", "0"]
)
def test_load_settings_other_host_needs_a_key(host: str) -> None:
    lines = refusal(host=host)
    assert len(lines) == 1
    assert lines[0].startswith(f"API_KEY: must be set to listen on {host}")


def test_load_settings_other_host_with_key_or_opt_out_is_accepted() -> None:
    assert not load_settings(host=EVERY_ADDRESS, api_key=KEY).is_loopback
    assert not load_settings(host=EVERY_ADDRESS, allow_keyless=True).is_loopback


def test_settings_are_frozen() -> None:
    settings = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1  # type: ignore[misc]
