"""What schemathesis loads beside the OpenAPI document: values that no generator can guess."""

from __future__ import annotations

import base64
import os
import re
import uuid
from datetime import datetime
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, HookContext

_VALID_KEY = re.compile(r"[!-~]{1,255}\Z")
_VALID_CURSOR = re.compile(r"[!-~]{1,200}\Z")
_KINDS = {"/backtest/runs": "backtest", "/optimize/runs": "optimization"}
"""What a listing's cursor is of, where that is not the last word of its path."""

# Only the years that a candle may come from.
schemathesis.openapi.format(
    "date-time",
    st.datetimes(datetime(1971, 1, 1), datetime(2099, 12, 30)).map(lambda moment: moment.isoformat() + "Z"),  # noqa: DTZ001
)


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:  # noqa: ARG001 - their signature
    """Put values that only the service can have given out where well-formed ones stand.

    A cursor comes from the page before; a key that came with another request is refused; a cycle without a
    trade has no trade to look up; a backtest and an optimisation have the ids that the test has found.
    """
    if _VALID_KEY.match(str(case.headers.get("Idempotency-Key", ""))):
        case.headers["Idempotency-Key"] = str(uuid.uuid4())
    if _VALID_CURSOR.match(str(case.query.get("cursor", ""))):
        kind = _KINDS.get(case.path) or case.path.rsplit("/", 1)[-1].removesuffix("s")
        case.query["cursor"] = base64.urlsafe_b64encode(f"{kind}:3".encode()).decode().rstrip("=")
    for name in ("backtest_id", "optimization_id"):
        if case.method == "GET" and _VALID_KEY.match(str(case.path_parameters.get(name, ""))):
            case.path_parameters[name] = os.environ[name.upper()]
    if case.path_parameters.get("trade_id", 1) is None:
        case.path_parameters["trade_id"] = 1
