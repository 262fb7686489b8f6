"""The page of a backtest in headless Chromium, with no network: every chart is drawn, and nothing goes wrong."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from app.report.backtest import render_backtest
from app.research.backtest.result import CalibrationBin
from tests.support.backtest_results import make_result
from tests.support.pages import ReadPage

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
HOSTILE = "<img src=x onerror=console.error(1)>"


def open_page(file: Path, profile: Path) -> tuple[str, list[str]]:
    """The document after its scripts have run, and what the browser's console said."""
    assert CHROMIUM is not None
    command = [
        *(CHROMIUM, "--headless=new", "--disable-gpu", "--hide-scrollbars", "--window-size=1100,900"),
        *("--host-resolver-rules=MAP * ~NOTFOUND", "--proxy-server=127.0.0.1:9", f"--user-data-dir={profile}"),
        *("--enable-logging=stderr", "--virtual-time-budget=20000", "--dump-dom", file.as_uri()),
    ]
    if os.geteuid() == 0:
        command.insert(1, "--no-sandbox")
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return ran.stdout, [line for line in ran.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
def test_page_draws_every_chart_without_network_or_errors(tmp_path: Path) -> None:
    result, history = make_result(parameters={"name": HOSTILE})
    calibration = (CalibrationBin(0.5, 0.6, 40, 0.55, 0.5),)
    page = render_backtest(replace(result, run=replace(result.run, calibration=calibration)), history)
    file = tmp_path / "page.html"
    file.write_text(page, "utf-8")
    document, console = open_page(file, tmp_path / "profile")

    charts = len(ReadPage(page).figures)
    assert console == []
    assert f'data-drawn="{charts}"' in document
    assert document.count('class="gridlayer"') >= charts
    assert document.count("<path") > 1_000
    shown = re.sub(r"<script.*?</script>", "", document, flags=re.DOTALL)
    assert shown.count('class="modebar-btn"') >= charts
    assert "sendChartToCloud" not in shown
    assert "Share chart" not in shown
    assert "<img" not in shown
