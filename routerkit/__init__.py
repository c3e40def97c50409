"""Answers from LLM gateways even when models, providers, keys or whole gateways fail.

    from routerkit import Client

    client = Client.from_env()
    print(client.complete("Hello").text)

The public names are loaded when they are first used: importing routerkit loads neither requests nor aiohttp.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from routerkit.async_client import AsyncClient as AsyncClient
    from routerkit.async_client import AsyncStream as AsyncStream
    from routerkit.client import Client as Client
    from routerkit.client import Stream as Stream
    from routerkit.core.performance import Score as Score
    from routerkit.core.router import Router as Router
    from routerkit.core.strategies import CostOptimized as CostOptimized
    from routerkit.core.strategies import MultiModel as MultiModel
    from routerkit.core.strategies import Outlook as Outlook
    from routerkit.core.strategies import PerformanceOptimized as PerformanceOptimized
    from routerkit.core.strategies import Priority as Priority
    from routerkit.core.strategies import RoundRobin as RoundRobin
    from routerkit.core.strategies import Strategy as Strategy
    from routerkit.core.strategies import Weighted as Weighted
    from routerkit.errors import AllModelsFailedError as AllModelsFailedError
    from routerkit.errors import APIConnectionError as APIConnectionError
    from routerkit.errors import APIError as APIError
    from routerkit.errors import APITimeoutError as APITimeoutError
    from routerkit.errors import AuthenticationError as AuthenticationError
    from routerkit.errors import BadRequestError as BadRequestError
    from routerkit.errors import BudgetExceededError as BudgetExceededError
    from routerkit.errors import ConfigurationError as ConfigurationError
    from routerkit.errors import ContentPolicyError as ContentPolicyError
    from routerkit.errors import ContextLengthExceededError as ContextLengthExceededError
    from routerkit.errors import DeadlineExceededError as DeadlineExceededError
    from routerkit.errors import EmptyResponseError as EmptyResponseError
    from routerkit.errors import InternalServerError as InternalServerError
    from routerkit.errors import InvalidRequestError as InvalidRequestError
    from routerkit.errors import LimitExceededError as LimitExceededError
    from routerkit.errors import ModelNotFoundError as ModelNotFoundError
    from routerkit.errors import NoEligibleModelError as NoEligibleModelError
    from routerkit.errors import PaymentRequiredError as PaymentRequiredError
    from routerkit.errors import PermissionDeniedError as PermissionDeniedError
    from routerkit.errors import ProtocolError as ProtocolError
    from routerkit.errors import RateLimitError as RateLimitError
    from routerkit.errors import RouterKitError as RouterKitError
    from routerkit.errors import StoreUnavailableError as StoreUnavailableError
    from routerkit.errors import StreamInterruptedError as StreamInterruptedError
    from routerkit.gateways import FREE_TIER as FREE_TIER
    from routerkit.gateways import FREE_TIER_WITH_CREDITS as FREE_TIER_WITH_CREDITS
    from routerkit.types.completion import Choice as Choice
    from routerkit.types.completion import Chunk as Chunk
    from routerkit.types.completion import Completion as Completion
    from routerkit.types.completion import Message as Message
    from routerkit.types.completion import StreamReset as StreamReset
    from routerkit.types.completion import StreamSeam as StreamSeam
    from routerkit.types.completion import ToolCall as ToolCall
    from routerkit.types.event import AttemptFinished as AttemptFinished
    from routerkit.types.event import BreakerChanged as BreakerChanged
    from routerkit.types.event import BreakerState as BreakerState
    from routerkit.types.event import CallFinished as CallFinished
    from routerkit.types.event import CatalogRefreshed as CatalogRefreshed
    from routerkit.types.event import Event as Event
    from routerkit.types.event import PriceJump as PriceJump
    from routerkit.types.event import StoreChanged as StoreChanged
    from routerkit.types.event import StoreState as StoreState
    from routerkit.types.event import StrategyFailed as StrategyFailed
    from routerkit.types.fault import Fault as Fault
    from routerkit.types.fleet import FleetReport as FleetReport
    from routerkit.types.fleet import LimitState as LimitState
    from routerkit.types.fleet import OpenBreaker as OpenBreaker
    from routerkit.types.gateway import Gateway as Gateway
    from routerkit.types.key_info import KeyInfo as KeyInfo
    from routerkit.types.limits import Budget as Budget
    from routerkit.types.limits import Limits as Limits
    from routerkit.types.model import Model as Model
    from routerkit.types.model import Pricing as Pricing
    from routerkit.types.parameters import Plugin as Plugin
    from routerkit.types.parameters import ProviderPreferences as ProviderPreferences
    from routerkit.types.parameters import ReasoningOptions as ReasoningOptions
    from routerkit.types.parameters import RequestParams as RequestParams
    from routerkit.types.parameters import UsageAccounting as UsageAccounting
    from routerkit.types.policy import BreakerPolicy as BreakerPolicy
    from routerkit.types.policy import RetryPolicy as RetryPolicy
    from routerkit.types.policy import Timeouts as Timeouts
    from routerkit.types.request import ChatRequest as ChatRequest
    from routerkit.types.route import Attempt as Attempt
    from routerkit.types.route import Candidate as Candidate
    from routerkit.types.route import Plan as Plan
    from routerkit.types.route import Route as Route
    from routerkit.types.route import Skip as Skip
    from routerkit.types.route import Target as Target
    from routerkit.types.settings import DevMode as DevMode
    from routerkit.types.settings import Settings as Settings
    from routerkit.types.store import SharedStore as SharedStore
    from routerkit.types.store import StoreReport as StoreReport
    from routerkit.types.tenant import Tenant as Tenant
    from routerkit.types.tokens import Usage as Usage
    from routerkit.types.usage import Stats as Stats
    from routerkit.types.usage import UsageReport as UsageReport
    from routerkit.types.usage import UsageRow as UsageRow
    from routerkit.types.usage import Used as Used
    from routerkit.types.verdict import Verdict as Verdict

_HOMES = {
    name: module
    for module, names in {
        "routerkit.client": ("Client Stream"),
        "routerkit.async_client": ("AsyncClient AsyncStream"),
        "routerkit.core.router": ("Router"),
        "routerkit.core.strategies": (
            "Strategy Outlook Priority RoundRobin Weighted CostOptimized PerformanceOptimized MultiModel"
        ),
        "routerkit.core.performance": ("Score"),
        "routerkit.types.limits": ("Limits Budget"),
        "routerkit.types.store": ("SharedStore StoreReport"),
        "routerkit.gateways": ("FREE_TIER FREE_TIER_WITH_CREDITS"),
        "routerkit.types.tenant": ("Tenant"),
        "routerkit.types.usage": ("UsageReport UsageRow Used Stats"),
        "routerkit.types.key_info": ("KeyInfo"),
        "routerkit.types.parameters": ("RequestParams ProviderPreferences ReasoningOptions Plugin UsageAccounting"),
        "routerkit.errors": (
            "RouterKitError ConfigurationError InvalidRequestError APIError BadRequestError "
            "ContextLengthExceededError ContentPolicyError AuthenticationError PaymentRequiredError "
            "PermissionDeniedError ModelNotFoundError RateLimitError InternalServerError APIConnectionError "
            "APITimeoutError ProtocolError EmptyResponseError DeadlineExceededError NoEligibleModelError "
            "AllModelsFailedError StreamInterruptedError LimitExceededError BudgetExceededError StoreUnavailableError"
        ),
        "routerkit.types.completion": ("Completion Choice Message ToolCall Chunk StreamReset StreamSeam"),
        "routerkit.types.tokens": ("Usage"),
        "routerkit.types.event": (
            "Event AttemptFinished CallFinished BreakerChanged BreakerState CatalogRefreshed PriceJump "
            "StoreChanged StoreState StrategyFailed"
        ),
        "routerkit.types.fault": ("Fault"),
        "routerkit.types.fleet": ("FleetReport LimitState OpenBreaker"),
        "routerkit.types.gateway": ("Gateway"),
        "routerkit.types.model": ("Model Pricing"),
        "routerkit.types.policy": ("RetryPolicy BreakerPolicy Timeouts"),
        "routerkit.types.request": ("ChatRequest"),
        "routerkit.types.route": ("Plan Candidate Skip Target Attempt Route"),
        "routerkit.types.settings": ("Settings DevMode"),
        "routerkit.types.verdict": ("Verdict"),
    }.items()
    for name in names.split()
}
"""Every public name, and the module it lives in."""

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'routerkit' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*(name for name in globals() if name.startswith("__")), *_HOMES})
