"""AWS services, called through boto3; their errors are translated here, at one place, by tables.

boto3 is imported, and a client made, when a service is first called. Region, endpoints and
credentials are found by boto3's own chain, never by our code; that it reads AWS_DEFAULT_REGION
alone, where the other SDKs read AWS_REGION, is made good.

A call is made once. Outages last minutes, boto3's own retries seconds: the loops above wait (with
full jitter and a limit) and call again, and a stop is not held up by a call for long.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from .errors import StreamgaugeError, UnavailableError

CONNECT_SECONDS_MAX = 2
READ_SECONDS_MAX = 4  # between two pieces of an answer; a long one may take longer
CONNECTIONS_MAX = 16

WAIT = {  # codes after which the same call may succeed later
    "ExpiredNextTokenException",
    "InternalError",
    "InternalFailure",
    "InternalFailureException",
    "InternalServerError",
    "KMSThrottling",
    "KMSThrottlingException",
    "LimitExceededException",
    "OperationAborted",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestTimeout",
    "ResourceInUseException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "SlowDown",
    "Throttled",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "TransactionInProgressException",
}
RENEW = {  # codes after which the call may succeed with fresh credentials, or a clock set right
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidSignatureException",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
}
HINTS = {  # what mends an error after which nobody can go on
    "CredentialRetrievalError": "the process or service that gives the credentials has failed",
    "ExpiredToken": "renew the credentials",
    "ExpiredTokenException": "renew the credentials",
    "NoCredentialsError": "give credentials in one of the ways that boto3 knows",
    "NoRegionError": "set AWS_REGION or AWS_DEFAULT_REGION",
    "NoSuchBucket": "check the bucket's name, the region and the account",
    "NotFound": "check the name, the region and the account",
    "RequestTimeTooSkewed": "set the clock of this machine",
    "ResourceNotFoundException": "check the name, the region and the account",
    "UnrecognizedClientException": "check the credentials",
}
DENIED = {
    "AccessDenied",
    "AccessDeniedException",
    "AuthorizationError",
    "AuthorizationErrorException",
}
PERMISSIONS = {  # where the permission is not called as the operation is
    "HeadObject": "s3:GetObject",
    "HeadBucket": "s3:ListBucket",
    "ListObjectsV2": "s3:ListBucket",
    "PublishBatch": "sns:Publish",
}


class RefusedError(StreamgaugeError):
    """A service refused a call for good.

    cause: the call and the service's message. code: the service's own word for why. hint: what
    would mend it, empty where that is not known.
    """

    def __init__(self, cause: str, code: str, hint: str = "") -> None:
        """Put cause and hint together as the message."""
        super().__init__(f"{cause} ({hint})" if hint else cause)
        self.cause, self.code, self.hint = cause, code, hint


class Service:
    """One AWS service, for all who call it in this process; safe for several threads.

    Its client is made at the first call, and anew after credentials have run out, so that renewed
    ones are found.
    """

    def __init__(
        self, name: str, client: Any = None, *, make: Callable[[], Any] | None = None
    ) -> None:
        """Make nothing yet.

        Args:
            name: as boto3 has it: kinesis, sns, s3, dynamodb, sqs.
            client: a boto3 client to use; None: one is made.
            make: how one is made; by default `client`, by boto3's own chain.
        """
        self.name = name
        self._client = client
        self._given = client is not None and make is None
        self._make = make or (lambda: make_client(name))
        self._hooks: list[Callable[[Any], object]] = []

    def prepare(self, hook: Callable[[Any], object]) -> None:
        """Have `hook` called with the client, and with each that follows it; once for each."""
        if hook not in self._hooks:
            self._hooks.append(hook)
            if self._client is not None:
                hook(self._client)

    @property
    def client(self) -> Any:
        """The boto3 client; StreamgaugeError where none can be made."""
        client = self._client
        if client is None:
            client = self._make()
            for hook in self._hooks:
                hook(client)
            self._client = client
        return client

    def call(self, operation: str, of: str, **request: Any) -> Any:
        """Make one call and give its answer.

        Args:
            operation: the client's method, such as `get_records`.
            of: what it is made on, for messages: "stream telemetry".
            request: the keyword arguments of the method.

        Raises:
            UnavailableError: the service is busy, down or out of reach, or credentials have run
                out; the same call may succeed later, and a write may have been done all the same.
            RefusedError: it refused for good; says what would mend that where it is known.
            StreamgaugeError: no call could be made (no credentials, no region, a wrong parameter).
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(self.client, operation)(**request)
        except ClientError as error:
            raise self._translated(error, of) from error
        except _unanswered() as error:
            raise UnavailableError(f"{of}: {error}") from error
        except BotoCoreError as error:
            raise StreamgaugeError(f"{of}: {error}{_hint(type(error).__name__)}") from error

    def _translated(self, error: Any, of: str) -> StreamgaugeError:
        told = error.response.get("Error", {})
        code = str(told.get("Code", "")) or "no code"
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        cause = f"{error.operation_name} on {of}: {code}: {told.get('Message', 'no message')}"
        if code in RENEW:
            self.renew()
            return UnavailableError(cause + _hint(code))
        if code in WAIT or status == 429 or status >= 500:
            return UnavailableError(cause)
        if code in DENIED or (status == 403 and code in ("403", "Forbidden")):
            named = f"{self.name}:{error.operation_name}"
            permission = PERMISSIONS.get(error.operation_name, named)
            return RefusedError(cause, code, f"the caller needs {permission}")
        return RefusedError(cause, code, HINTS.get(code, ""))

    def renew(self) -> None:
        """Make a new client for the next call, with whatever credentials are found then."""
        if not self._given:
            self._client = None
            _forget_session()


def make_client(name: str, read_seconds: float = READ_SECONDS_MAX) -> Any:
    """A boto3 client by boto3's own chain of region, endpoint and credentials.

    Args:
        read_seconds: how long it waits between two pieces of an answer.

    Raises:
        StreamgaugeError: none can be made; says what is missing.
    """
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(
        connect_timeout=CONNECT_SECONDS_MAX,
        read_timeout=read_seconds,
        retries={"total_max_attempts": 1},
        max_pool_connections=CONNECTIONS_MAX,
    )
    try:
        with _lock:  # sessions are not made for several threads; clients are
            return _session().client(name, config=config)
    except BotoCoreError as error:
        raise StreamgaugeError(f"{name}: {error}{_hint(type(error).__name__)}") from error


# One session for all clients, for each makes the next one cheaper. It is of the settings it was
# made under: tests and the demo change them.
_lock = threading.Lock()
_held: tuple[Any, Any] | None = None


def _session() -> Any:
    global _held
    settings = sorted(item for item in os.environ.items() if item[0].startswith("AWS_"))
    if _held is None or _held[0] != settings:
        from boto3.session import Session

        region = None if os.environ.get("AWS_DEFAULT_REGION") else os.environ.get("AWS_REGION")
        _held = settings, Session(region_name=region or None)
    return _held[1]


def _forget_session() -> None:
    global _held
    with _lock:
        _held = None


def _unanswered() -> tuple[type[Exception], ...]:
    """What is raised where no answer came, or none that can be read."""
    from botocore import exceptions
    from botocore.parsers import ResponseParserError

    return (
        exceptions.ConnectionError,
        exceptions.CredentialRetrievalError,
        exceptions.HTTPClientError,
        exceptions.IncompleteReadError,
        ResponseParserError,
    )


def _hint(code: str) -> str:
    return f" ({HINTS[code]})" if code in HINTS else ""
