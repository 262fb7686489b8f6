"""The documentation page: Swagger UI from a package on this machine, without a request elsewhere."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

ASSETS = ("fastapi_offline", "static")
"""The package, and the folder in it, that ships Swagger UI 5; older ones can not read OpenAPI 3.1."""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Papertape</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/assets/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  tryItOutEnabled: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
});
"""


async def _page(_request: Request) -> Response:
    return HTMLResponse(_PAGE)


async def _start_script(_request: Request) -> Response:
    return Response(_START, media_type="text/javascript")


async def _to_docs(_request: Request) -> Response:
    return RedirectResponse("/docs")


async def _to_health(_request: Request) -> Response:
    return RedirectResponse("/health")


def install_docs(app: FastAPI, *, enabled: bool) -> None:
    """Serve the page under /docs and lead there from /; where it is not enabled, / leads to /health."""
    app.router.routes.append(Route("/", _to_docs if enabled else _to_health))
    if enabled:
        app.router.routes += [
            Route("/docs", _page),
            Route("/docs/start.js", _start_script),
            Mount("/docs/assets", StaticFiles(packages=[ASSETS])),
        ]
