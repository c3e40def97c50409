"""Wider histories: two gateways, several keys at each, two tenants. `worlds` has those of one gateway and one key.

A key may fall out of favour: then its requests are refused, whatever model they ask for, and cost the models' scripts nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TypeVar

import attrs
from hypothesis import strategies as st

from routerkit import Gateway, Tenant
from routerkit.config import settings_from
from routerkit.core.router import Router
from routerkit.tenancy import settings_for
from routerkit.testing import Connection, RecordedRequest
from routerkit.testing import replies as r
from routerkit.types.policy import BreakerPolicy, RetryPolicy
from tests.properties import worlds
from tests.properties.scripts import CATALOG, HINTS, LAST_RESORT, MODELS, Answer, answers
from tests.properties.worlds import Ask

T = TypeVar("T")

GATEWAYS = (worlds.GATEWAY, "127.0.0.1:2")
TENANTS = ("acme", "globex")


def key_of(tenant: str, gateway: str, number: int) -> str:
    return f"sk-{tenant}-{GATEWAYS.index(gateway)}-{number}-1234567890"


@attrs.frozen
class Wide:
    scripts: tuple[tuple[str, str, tuple[Answer, ...]], ...]
    """By gateway and model; the last answer is given for ever."""
    keys: tuple[tuple[str, str, int], ...]
    """Of which tenant at which gateway are how many."""
    moods: tuple[tuple[str, tuple[Answer | None, ...]], ...]
    """By key, how its requests are refused in turn, ``None``: they are not; the last for ever."""
    asks: tuple[Ask, ...]
    dice: float = 0.5
    retry: RetryPolicy = RetryPolicy()
    fast_trip: int = 5
    """How many failures in a row open a breaker."""
    strategy: str = "priority"
    last_resort: bool = True
    """Whether there are catalogues."""


ACCOUNT = [
    *(Answer("refusal", (status, hint, ())) for status in (401, 402) for hint in HINTS[:3]),
    *(
        Answer("refusal", (status, hint, (("metadata", {"limit_source": source}),)))
        for status, source in (
            (429, "openrouter_free_tier_daily"),
            (402, "openrouter_key_limit"),
            (402, "openrouter_in_flight_budget"),
        )
        for hint in (HINTS[0], (("Retry-After", "2"),), (("Retry-After", "40"),))
    ),
    Answer("refusal", (429, (), (("code", "insufficient_quota"),))),
    Answer("refusal", (429, (("Retry-After", "7"),), ())),
    Answer("refusal", (404, (), (("availability", {"code": "privacy_restricted"}),))),
    Answer("refusal", (400, (), (("metadata", {"error_type": "content_policy_violation"}),))),
    Answer("refusal", (403, (), ())),
]
"""Refusals that say something of the key, its account or its request, and nothing of models and gateways."""

_POLICIES = st.builds(
    RetryPolicy,
    max_attempts=st.sampled_from([1, 2, 4, 4, 6]),
    budget=st.sampled_from([0.0, 1.0, 2.0, 10.0]),
    budget_deposit=st.sampled_from([0.0, 0.1, 0.5]),
)
ORDERS = st.permutations(MODELS).flatmap(lambda order: st.integers(1, 3).map(lambda count: tuple(order[:count])))


def plain_asks(tenants: Iterable[str] = TENANTS) -> st.SearchStrategy[Ask]:
    return st.builds(
        Ask,
        st.booleans(),
        ORDERS,
        st.sampled_from(worlds.TOTALS),
        st.sampled_from(worlds.GAPS),
        tenant=st.sampled_from(list(tenants)),
        handed=st.sampled_from([False, False, False, True]),
    )


@st.composite
def wides(
    draw: st.DrawFn, *, answer: st.SearchStrategy[Answer] | None = None, asks: int = 8, overlapping: bool = False
) -> Wide:
    answer = answers() if answer is None else answer
    scripts = tuple(
        (gateway, model, tuple(draw(st.lists(answer, min_size=1, max_size=4))))
        for gateway in GATEWAYS
        for model in (*MODELS, LAST_RESORT)
    )
    keys = tuple((tenant, gateway, draw(st.integers(1, 3))) for tenant in TENANTS for gateway in GATEWAYS)
    mood = st.none() | st.none() | st.sampled_from(ACCOUNT)
    moods = tuple(
        (key_of(tenant, gateway, number), tuple(draw(st.lists(mood, min_size=1, max_size=4))))
        for tenant, gateway, count in keys
        for number in range(count)
    )
    ask = plain_asks()
    if overlapping:
        ask = ask | st.builds(
            Ask, st.booleans(), ORDERS, interrupted=st.tuples(st.integers(0, 5), ask), tenant=st.sampled_from(TENANTS)
        )
    return Wide(
        scripts,
        keys,
        moods,
        tuple(draw(st.lists(ask, min_size=1, max_size=asks))),
        draw(st.sampled_from([0.0, 0.5, 0.999])),
        draw(_POLICIES),
        draw(st.sampled_from([1, 1, 2, 5])),
        draw(st.sampled_from(["priority", "round_robin"])),
        draw(st.booleans()),
    )


class WideRun(worlds.Run):
    """A wide history being played to the core."""

    def __init__(self, wide: Wide) -> None:
        super().__init__(worlds.World((), wide.asks, wide.dice))
        self.wide = wide
        self.gateways = [self.gateway.at(f"http://{name}") for name in GATEWAYS]
        self._moods = {name: list(moods) for name, moods in wide.moods}
        self._scripts = {(gateway, model): list(script) for gateway, model, script in wide.scripts}
        for name, place in zip(GATEWAYS, self.gateways, strict=True):
            place.default = self._answering(name)
        for place in self.gateways:
            place.catalog = r.json_body(CATALOG) if wide.last_resort else r.error(404)
        keys: dict[str, dict[str, list[str]]] = defaultdict(dict)
        for tenant, gateway, count in wide.keys:
            keys[tenant][gateway] = [key_of(tenant, gateway, number) for number in range(count)]
        self.keys = {tenant: {name: frozenset(each) for name, each in own.items()} for tenant, own in keys.items()}
        options = settings_from(
            {},
            gateways=[Gateway(name=name, base_url=f"http://{name}/v1") for name in GATEWAYS],
            tenants=[Tenant(tenant, own) for tenant, own in keys.items()],
            retry=wide.retry,
            breaker=BreakerPolicy(fast_trip=wide.fast_trip),
            strategy=wide.strategy,
        )
        self.router = Router(options, self.runtime)
        self.routers = {tenant: self.router.sharing(settings_for(options, tenant)) for tenant in keys}

    def refuse(self, *tenants: str, refusal: Answer) -> None:
        """From now on all keys of these tenants are refused."""
        for tenant, gateway, count in self.wide.keys:
            if tenant in tenants:
                self._moods.update({key_of(tenant, gateway, number): [refusal] for number in range(count)})

    def _answering(self, gateway: str) -> r.Reply:
        def reply(connection: Connection, request: RecordedRequest) -> None:
            refusal = _taken(self._moods[str(request.api_key)])
            answer = refusal or _taken(self._scripts[gateway, request.model])
            answer.reply(self._speaker)(connection, request)

        return reply


def _taken(turns: list[T]) -> T:
    """The next one; the last for ever."""
    return turns[0] if len(turns) == 1 else turns.pop(0)
