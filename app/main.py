"""The web application, and how it is served."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from urllib.parse import quote, unquote, urlsplit

import structlog
from fastapi import FastAPI
from starlette.middleware import Middleware

from app import __version__
from app.api.admission import ApiKeyGuard, LoadShedder
from app.api.cors import CrossOriginPages
from app.api.deps import Service
from app.api.docs import install_docs
from app.api.errors import install_error_handlers
from app.api.middleware import HostGuard, OriginGuard, RequestIdentity, RequestRecord, SizeLimits
from app.api.openapi import DESCRIPTION, TAGS, install_openapi
from app.api.routes import (
    backtests,
    events,
    model,
    operations,
    optimize,
    parity,
    performance,
    portfolio,
    records,
    trading,
)
from app.api.server import Server, address_error, address_of, bind, server_config
from app.bootstrap import build_service
from app.observability.logging import configure_logging
from app.setting_kinds import LogFormat
from app.settings import Settings

_OPEN_FILES = 8_192

log = structlog.get_logger()


def create_app(settings: Settings, build: Callable[[Settings], Service] = build_service) -> FastAPI:
    """Put the application together; nothing is opened before its lifespan starts.

    Args:
        settings: What it runs with.
        build: Makes the service behind the routes; called when the lifespan starts.
    """
    shows_docs = settings.is_loopback or settings.allow_keyless

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = build(settings)
        app.state.service = service
        try:
            await service.start()
            yield
        finally:
            await service.stop()

    app = FastAPI(
        title="Papertape",
        version=__version__,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        openapi_url="/openapi.json" if shows_docs else None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        middleware=_middleware(settings),
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    install_error_handlers(app)
    for routes in (trading, records, portfolio, performance, events, model, backtests, optimize, parity, operations):
        app.include_router(routes.router)
    install_docs(app, enabled=shows_docs)
    install_openapi(app, with_key=settings.api_key is not None)
    return app


def _middleware(settings: Settings) -> list[Middleware]:
    """What a request passes on its way in, outermost first."""
    key = settings.api_key.get_secret_value() if settings.api_key else None
    cross_origin = [Middleware(CrossOriginPages, settings.cors_origins)] if settings.cors_origins else []
    return [
        Middleware(RequestIdentity),
        Middleware(RequestRecord),
        Middleware(HostGuard, settings.allowed_hosts),
        Middleware(SizeLimits),
        *cross_origin,
        Middleware(OriginGuard, settings.cors_origins),
        Middleware(ApiKeyGuard, key),
        Middleware(LoadShedder),
    ]


def serve(settings: Settings, on_ready: Callable[[str, Service], None] | None = None) -> None:
    """Serve until SIGINT or SIGTERM; returns once everything is closed.

    Args:
        settings: What to run with; this also configures the logs of the process.
        on_ready: Called with the address and the service once connections are taken.

    Raises:
        ConfigurationError: The address can not be used, or a setting is wrong.
        ServiceError: The service could not start.
    """
    configure_logging(
        settings.log_level.value, json_lines=settings.log_format is LogFormat.JSON, secrets=secrets_of(settings)
    )
    _raise_file_limit()
    app = create_app(settings)
    listener = bind(settings.host, settings.port)
    factory = server_config(app).get_loop_factory()
    with listener, asyncio.Runner(loop_factory=factory) as runner, suppress(KeyboardInterrupt):
        runner.run(serve_application(app, listener, on_ready))


async def serve_application(
    app: FastAPI, listener: socket.socket, on_ready: Callable[[str, Service], None] | None = None
) -> None:
    """Run the lifespan of `app` and, inside of it, the server on `listener`."""
    address = address_of(listener)

    def ready() -> None:
        log.info("service.started", address=address, version=__version__)
        if on_ready is not None:
            on_ready(address, app.state.service)

    def stopping() -> None:
        app.state.service.event_relay.end_streams()

    async with app.router.lifespan_context(app):
        try:
            await Server(server_config(app), ready, stopping).serve(sockets=[listener])
        except OSError as error:
            host, port = listener.getsockname()[:2]
            raise address_error(host, port, error) from None
    log.info("service.stopped")


def secrets_of(settings: Settings) -> list[str]:
    """The texts that no log line may show: the API key and the password of the database."""
    secrets = [settings.api_key.get_secret_value()] if settings.api_key else []
    password = urlsplit(settings.database_url.get_secret_value()).password
    if password:
        secrets += [password, unquote(password), quote(unquote(password), safe="")]
    return secrets


def _raise_file_limit() -> None:
    """Allow as many open files as many connections need, where the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
