"""The error tree, grouped by what the reader can do about it. It knows no HTTP.

ServiceError
├── ConfigurationError        fix a setting; the service does not start
├── InvalidInputError         fix the request
├── NotFoundError             ask for something that exists
├── ConflictError             the state of things forbids it now
├── NotReadyError             wait and ask again (model loading, stale market, overload)
├── UpstreamError             the exchange failed or sent something unusable
│   ├── UpstreamTimeoutError
│   ├── UpstreamRateLimitError
│   ├── UpstreamRestrictedError
│   └── DataQualityError      it answered, and the answer is not fit to trade on
└── StorageError              the database could not be read or written
"""

from __future__ import annotations

from collections.abc import Mapping


class ServiceError(Exception):
    """Something went wrong that a caller can be told about.

    Args:
        message: One sentence for people: what happened and what to do.
        code: Machine-readable reason in snake_case; the class's own when not given.
        retry_after_seconds: How long a caller should wait, when waiting helps.
        context: Facts that are safe to show, such as the symbol or what was expected.
    """

    code = "internal_error"
    retryable = False

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        retry_after_seconds: float | None = None,
        context: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.retry_after_seconds = retry_after_seconds
        self.context: dict[str, object] = dict(context or {})


class ConfigurationError(ServiceError):
    """A setting is wrong; the service does not start."""

    code = "configuration_invalid"


class InvalidInputError(ServiceError):
    """The request itself cannot be served, now or later."""

    code = "invalid_input"


class NotFoundError(ServiceError):
    """What was asked for does not exist."""

    code = "not_found"


class ConflictError(ServiceError):
    """The request is fine, but the present state forbids it."""

    code = "conflict"
    retryable = True


class NotReadyError(ServiceError):
    """Waiting helps: a model is being trained, the market is quiet, the service is busy."""

    code = "not_ready"
    retryable = True


class UpstreamError(ServiceError):
    """The exchange failed, or what it sent cannot be read."""

    code = "upstream_unavailable"
    retryable = True


class UpstreamTimeoutError(UpstreamError):
    """The exchange did not answer in time."""

    code = "upstream_timeout"


class UpstreamRateLimitError(UpstreamError):
    """The exchange told us to stop asking (429) or banned the address (418)."""

    code = "upstream_rate_limited"


class UpstreamRestrictedError(UpstreamError):
    """The exchange does not serve this location (451)."""

    code = "upstream_restricted"


class DataQualityError(UpstreamError):
    """The exchange answered, and the answer is not fit to trade on."""

    code = "upstream_bad_data"


class StorageError(ServiceError):
    """The database could not be read or written; nothing was recorded."""

    code = "storage_unavailable"
    retryable = True
