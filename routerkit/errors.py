"""One exception tree, named as OpenAI's users know it.

Errors carry data beside their prose; the prose says what happened, on which model, and what to do about it. Each error can
be pickled, and none holds a key. Catch :class:`RouterKitError` for all of them::

    RouterKitError
    ├── ConfigurationError (ValueError)      a setting is missing or unreadable
    ├── InvalidRequestError (ValueError)     refused before anything was sent
    ├── APIError                             a gateway refused or failed
    │   ├── BadRequestError                  400 and its kin: the request itself
    │   │   ├── ContextLengthExceededError
    │   │   └── ContentPolicyError
    │   ├── AuthenticationError              401
    │   ├── PaymentRequiredError             402
    │   ├── PermissionDeniedError            403
    │   ├── ModelNotFoundError
    │   ├── RateLimitError                   429
    │   ├── InternalServerError              5xx
    │   ├── APIConnectionError               no answer came
    │   │   └── APITimeoutError (TimeoutError)
    │   ├── ProtocolError                    an answer that is none
    │   └── EmptyResponseError
    ├── DeadlineExceededError (TimeoutError) the call's own deadline
    ├── NoEligibleModelError                 every model was left out, nothing was sent
    ├── AllModelsFailedError                 every attempt failed
    ├── StreamInterruptedError               a stream broke after its first content
    ├── LimitExceededError                   a limit of your own
    ├── BudgetExceededError                  a budget of your own
    └── StoreUnavailableError                what the fleet shares cannot be asked now
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from routerkit.types.completion import Chunk
    from routerkit.types.route import Attempt, Plan, Route


def _restore(cls: type[RouterKitError], message: str, state: dict[str, Any]) -> RouterKitError:
    error = cls.__new__(cls, message)
    Exception.__init__(error, message)
    error.__cause__ = state.pop("__cause__", None)
    error.__dict__.update(state)
    return error


class RouterKitError(Exception):
    """Base of everything that routerkit raises on purpose. ``str(error)`` is the whole message."""

    should_retry: ClassVar[bool] = False

    status_code: int | None = None
    """HTTP status of the gateway's answer, where there was one."""
    code: str | None = None
    """The verdict's code: a stable word such as ``rate_limited``."""
    model: str | None = None
    gateway: str | None = None
    retry_after: float | None = None
    """Seconds after which trying again can help; ``None``: unknown."""
    route: Route | None = None
    """What was tried, in order."""

    @property
    def message(self) -> str:
        """The same as ``str(error)``."""
        return str(self)

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Those of ``route``, in order."""
        return () if self.route is None else self.route.attempts

    def to_dict(self) -> dict[str, Any]:
        """``{"error", "status_code", "model", "should_retry", "rate_limited"}``, ready for a JSON answer."""
        return {
            "error": str(self),
            "status_code": self.status_code,
            "model": self.model,
            "should_retry": self.should_retry,
            "rate_limited": self.rate_limited,
        }

    @property
    def rate_limited(self) -> bool:
        """Whether a rate or usage limit was the reason."""
        return False

    def __reduce__(self) -> tuple[Any, ...]:
        state = dict(self.__dict__)
        if isinstance(self.__cause__, RouterKitError):
            state["__cause__"] = self.__cause__
        return _restore, (type(self), str(self), state)


class ConfigurationError(RouterKitError, ValueError):
    """A setting is missing, unreadable or contradicts another; the message names it."""


class InvalidRequestError(RouterKitError, ValueError):
    """The call's arguments were refused before anything was sent."""


class APIError(RouterKitError):
    """A gateway refused or failed one model; ``route`` tells what else was tried."""

    def __init__(
        self,
        message: str,
        *,
        status_code: int | None = None,
        code: str | None = None,
        error_type: str | None = None,
        model: str | None = None,
        gateway: str | None = None,
        retry_after: float | None = None,
        request_id: str | None = None,
        route: Route | None = None,
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.code = code
        self.error_type = error_type
        """The gateway's own word for the failure, where it sent one."""
        self.model = model
        self.gateway = gateway
        self.retry_after = retry_after
        self.request_id = request_id
        self.route = route


class BadRequestError(APIError):
    """400 and its kin: the gateway refuses this request, whichever model answers."""


class ContextLengthExceededError(BadRequestError):
    """Prompt and answer together do not fit the model's context."""


class ContentPolicyError(BadRequestError):
    """Moderation or a guardrail refused the content. Never moved to another model behind your back."""


class AuthenticationError(APIError):
    """401: the key is missing, wrong or revoked."""


class PaymentRequiredError(APIError):
    """402: no credit is left."""


class PermissionDeniedError(APIError):
    """403: the key may not do this."""


class ModelNotFoundError(APIError):
    """The gateway does not know the model, or serves it no longer."""


class RateLimitError(APIError):
    """429: too many requests, or a quota is used up."""

    should_retry = True

    @property
    def rate_limited(self) -> bool:
        return True


class InternalServerError(APIError):
    """5xx: the gateway or the provider behind it failed."""

    should_retry = True


class APIConnectionError(APIError):
    """No connection, or it broke before the answer was complete."""

    should_retry = True


class APITimeoutError(APIConnectionError, TimeoutError):
    """The gateway took longer than one of the clocks of ``Timeouts`` allows."""


class ProtocolError(APIError):
    """What came back is no answer of an OpenAI-compatible gateway."""

    should_retry = True


class EmptyResponseError(APIError):
    """The gateway reported success and sent no content."""

    should_retry = True


class DeadlineExceededError(RouterKitError, TimeoutError):
    """The call's total time is used up; ``route`` tells on what."""

    should_retry = True

    def __init__(self, message: str, *, route: Route | None = None) -> None:
        super().__init__(message)
        self.route = route


class NoEligibleModelError(RouterKitError):
    """Every model was left out before anything was sent; the message gives a reason for each."""

    def __init__(
        self,
        message: str,
        *,
        plan: Plan | None = None,
        route: Route | None = None,
        retry_after: float | None = None,
        rate_limited: bool = False,
    ) -> None:
        super().__init__(message)
        self.plan = plan
        self.route = route
        self.retry_after = retry_after
        self._rate_limited = rate_limited

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "should_retry": self.retry_after is not None}

    @property
    def rate_limited(self) -> bool:
        return self._rate_limited


class AllModelsFailedError(RouterKitError):
    """Every attempt failed. ``errors`` has one error per attempt in order, ``__cause__`` the one that tells most."""

    def __init__(
        self,
        message: str,
        *,
        errors: Iterable[APIError],
        cause: APIError,
        retry_after: float | None = None,
        route: Route | None = None,
    ) -> None:
        super().__init__(message)
        self.errors = tuple(errors)
        self.retry_after = retry_after
        self.route = route
        self.status_code = cause.status_code
        self.code = cause.code
        self.model = cause.model
        self.gateway = cause.gateway
        self.__cause__ = cause

    @property
    def rate_limited(self) -> bool:
        return self.__cause__ is not None and isinstance(self.__cause__, RateLimitError)

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "should_retry": any(each.should_retry for each in self.errors)}


class StreamInterruptedError(RouterKitError):
    """A stream broke after its first content; what had arrived is in ``partial_text`` and ``chunks``.

    The text is kept out of the message and of ``repr``: logs should not hold what users say.
    """

    should_retry = True

    def __init__(
        self,
        message: str,
        *,
        chunks: Iterable[Chunk] = (),
        partial_text: str = "",
        truncated: bool = False,
        status_code: int | None = None,
        code: str | None = None,
        model: str | None = None,
        gateway: str | None = None,
        retry_after: float | None = None,
        request_id: str | None = None,
        route: Route | None = None,
    ) -> None:
        super().__init__(message)
        self.chunks = tuple(chunks)
        self.partial_text = partial_text
        self.truncated = truncated
        """Whether the stream just ended, without ``finish_reason`` or ``[DONE]``, rather than saying why."""
        self.status_code = status_code
        self.code = code
        self.model = model
        self.gateway = gateway
        self.retry_after = retry_after
        self.request_id = request_id
        self.route = route


class _RefusedError(RouterKitError):
    """A limit or budget of the caller's own.

    ``retry_at`` is the Unix time at which there is room again, ``retry_after`` the seconds until then. Both are ``None`` where
    nobody can tell, as of a place that comes free when another call ends, or where waiting does not help.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_at: float | None = None,
        retry_after: float | None = None,
        route: Route | None = None,
    ) -> None:
        super().__init__(message)
        self.retry_at = retry_at
        self.retry_after = retry_after
        self.route = route

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "should_retry": self.retry_at is not None}

    @property
    def rate_limited(self) -> bool:
        return True


class LimitExceededError(_RefusedError):
    """One of your own limits leaves no room; nothing was sent."""


class BudgetExceededError(_RefusedError):
    """One of your own budgets leaves no money; nothing was sent."""


class StoreUnavailableError(RouterKitError):
    """The store that processes share cannot be asked now, so nobody can tell what the fleet saw. No call ever ends so."""

    should_retry = True
