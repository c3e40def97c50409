"""The gateways that routerkit knows, as data."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import urlsplit

import attrs

from routerkit.errors import ConfigurationError
from routerkit.types.gateway import FEATURES, Gateway, checked_url
from routerkit.types.limits import Limits
from routerkit.types.secret import shown

OPENROUTER = Gateway(
    name="openrouter",
    base_url="https://openrouter.ai/api/v1",
    label="OpenRouter",
    key_required=True,
    id_prefix="openrouter/",
    id_format="author/slug",
    features=FEATURES,
    key_path="/key",
    credits_path="/credits",
    title_header="X-OpenRouter-Title",
    usage_parameter=True,
    insures_failures=True,
)
INFRON = Gateway(
    name="infron",
    base_url="https://llm.infron.ai/v1",
    label="Infron AI",
    key_required=True,
    id_prefix="infron/",
    details_url="https://app.infron.ai/api/display_models/",
    prices_per=1_000_000,
    # By its documentation (infron.ai/docs): "Inference Provider Routing", "Usage Accounting", "Reasoning".
    features={"provider", "reasoning", "usage"},
    usage_parameter=True,
)
ONEROUTER = attrs.evolve(
    INFRON, name="onerouter", base_url="https://llm.onerouter.pro/v1", label="OneRouter", id_prefix="onerouter/"
)
"""Infron AI under its former name."""

FREE_TIER: Mapping[str, Limits] = MappingProxyType(
    {"free:openrouter": Limits(requests_per_minute=20, requests_per_day=50)}
)
"""What OpenRouter allows each account of its free models: ``Client(limits=FREE_TIER)``. Source: "API rate limits" in its
documentation (openrouter.ai/docs/api-reference/limits). Several keys of one account have these together."""
FREE_TIER_WITH_CREDITS: Mapping[str, Limits] = MappingProxyType(
    {"free:openrouter": Limits(requests_per_minute=20, requests_per_day=1000)}
)
"""The same for an account that has bought ten credits or more."""

KNOWN: Mapping[str, Gateway] = MappingProxyType({gateway.name: gateway for gateway in (OPENROUTER, INFRON, ONEROUTER)})


def known(name: str) -> Gateway:
    """The gateway of that name, in any case, or at that base URL. Raises ConfigurationError, which lists the known ones."""
    if isinstance(name, str) and "://" in name:
        return at(name)
    try:
        return KNOWN[str(name).lower()]
    except KeyError:
        raise ConfigurationError(
            f"gateway={shown(name)} is not known (known: {', '.join(KNOWN)}); for any other server give its base URL"
        ) from None


def at(base_url: str) -> Gateway:
    """The known gateway whose base URL that is; else any OpenAI-compatible server, named after its host and port."""
    url = checked_url(base_url)
    told = next((gateway for gateway in KNOWN.values() if gateway.base_url == url), None)
    return told or Gateway(name=urlsplit(url).netloc, base_url=url)


def at_home(base_url: str) -> str | None:
    """The name of the known gateway to whose domain a base URL belongs, whatever its host there. Raises ConfigurationError."""
    domain = _domain(checked_url(base_url))
    return next((name for name, gateway in KNOWN.items() if _domain(gateway.base_url) == domain), None)


def _domain(url: str) -> list[str]:
    return (urlsplit(url).hostname or "").rstrip(".").split(".")[-2:]
