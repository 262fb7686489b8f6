"""How JSON is written into the database: compact, readable and never with NaN."""

from __future__ import annotations

import json


def to_json(value: object) -> str:
    """The JSON text of `value`, without spaces.

    >>> to_json({"a": [1, "é"]})
    '{"a":[1,"é"]}'
    """
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
