"""Which models a sweep asks: those that the filters find and the library's plan calls fit, or those that are named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import attrs
import click

from routerkit.cli.near import near
from routerkit.cli.probe.allowance import bound
from routerkit.cli.probe.sweep import Asked, Question
from routerkit.errors import APIError, DeadlineExceededError
from routerkit.types.model import Model, ModelFilters
from routerkit.types.request import ChatRequest
from routerkit.types.route import Origin, Plan, Target

if TYPE_CHECKING:
    from routerkit.async_client import AsyncClient

NEAR = 3
"""How many ids are suggested for one that is not known."""
_WILD = frozenset("*?[")


@attrs.frozen
class Choice:
    """What is asked, in order, and what is not."""

    asked: tuple[Asked, ...]
    listed: int
    """Models of all catalogues."""
    found: int
    """Those of them that the filters and names leave."""
    left_out: tuple[tuple[str, int], ...] = ()
    """Why models are not asked that the filters and names leave, and how many; the most frequent reason first."""
    unread: tuple[str, ...] = ()
    """Catalogues that could not be read, and why."""


def split(names: Iterable[str]) -> tuple[str, ...]:
    """Ids and globs, given one by one or several with commas between them; each once."""
    return tuple(dict.fromkeys(name.strip() for text in names for name in text.split(",") if name.strip()))


async def choose(client: AsyncClient, question: Question, names: Sequence[str], filters: ModelFilters) -> Choice:
    """The models to ask. Raises UsageError when there are none, the library's errors when no catalogue can be read."""
    exact = [name for name in names if not _WILD & {*name}]
    globs = [name for name in names if _WILD & {*name}]
    client = client.with_options(default_model=None, fallback_models=[], catalog_fallback=True)
    options: dict[str, Any] = {"allow_any_price": True, **question.options}
    try:
        listed = _by_target(await client.models())
        found = _by_target(await client.models(**filters)) if filters else listed
    except (APIError, DeadlineExceededError):
        if not exact:
            raise
        listed = found = {}
    plan = await client.explain(question.prompt, **options)
    unread = {skip.gateway: skip.reason for skip in plan.skipped if skip.model == _CATALOGUE}
    named: list[Target] = []
    for name in exact:
        named += await _named(client, question, name, listed, unread)
    allowed = [target for target in dict.fromkeys(named) if target in found or (not filters and target not in listed)]
    drawn = [target for target in found if _matches(target, globs)] if names else list(found)
    if globs and not drawn:
        raise click.UsageError(f"--models {', '.join(globs)}: none of {len(found)} models matches")
    fit, unfit = _fit(plan, set(drawn) - set(allowed))
    targets = [*allowed, *fit]
    if not targets:
        raise click.UsageError(_nothing(len(found), len(listed), unfit, named=bool(named)))
    return Choice(
        tuple(_priced(targets, plan, listed, client, question)),
        len(listed),
        len({*allowed, *drawn}),
        tuple(unfit.most_common()),
        tuple(f"the catalogue of {gateway} {reason}" for gateway, reason in unread.items()),
    )


_CATALOGUE = "the catalogue"
"""In the place of a model's id, where a plan says that a catalogue could not be read."""


def _by_target(models: Iterable[Model]) -> dict[Target, Model]:
    return {Target(model.gateway, model.id): model for model in models}


async def _named(
    client: AsyncClient, question: Question, name: str, listed: dict[Target, Model], unread: dict[str, str]
) -> list[Target]:
    """Where a model that is named can be asked: on gateways that list it, or of which nobody knows what they list."""
    narrow = client.with_options(catalog_fallback=False)
    plan = await narrow.explain(question.prompt, model=name)
    places = [each.target for each in plan.targets if each.origin is Origin.REQUESTED]
    places += [each.target for each in plan.skipped if each.retry_after is not None]
    found = [target for target in places if target in listed or target.gateway in unread]
    if found:
        return found
    meant = near(name, sorted({target.model for target in listed}), NEAR)
    hint = f"; near it: {', '.join(meant)}" if meant else ""
    raise click.UsageError(f"--models {name}: no catalogue lists it{hint}")


def _matches(target: Target, globs: Iterable[str]) -> bool:
    return any(fnmatchcase(target.model.lower(), glob.lower()) for glob in globs)


def _fit(plan: Plan, wanted: set[Target]) -> tuple[list[Target], Counter[str]]:
    """Of those wanted the ones that the plan calls fit, in its order, and the reasons why not of the others.

    One that is only resting now is fit: it is asked later.
    """
    fit = [each.target for each in plan.targets if each.target in wanted]
    fit += [each.target for each in plan.skipped if each.target in wanted and each.retry_after is not None]
    reasons = Counter(each.reason for each in plan.skipped if each.target in wanted and each.retry_after is None)
    return fit, reasons


def _nothing(found: int, listed: int, unfit: Counter[str], *, named: bool) -> str:
    if named or not found:
        return f"no model is left to ask: the filters leave {found} of {listed}"
    told = "; ".join(f"{count} {reason}" for reason, count in unfit.most_common(5))
    return f"no model is left to ask: the filters leave {found} of {listed}, and none of them fits the prompt ({told})"


def _priced(
    targets: Iterable[Target], plan: Plan, listed: dict[Target, Model], client: AsyncClient, question: Question
) -> Iterable[Asked]:
    expected = {each.target: each.expected_cost for each in plan.targets}
    params = {} if question.max_tokens is None else {"max_tokens": question.max_tokens}
    timeouts = question.timeout or client.settings.timeouts
    request = ChatRequest.build(question.prompt, params, timeouts=timeouts, stream=True)
    worst = bound(request, lambda gateway, model: listed.get(Target(gateway, model)))
    for target in targets:
        yield Asked(target, listed.get(target), expected.get(target), worst(target.gateway, target.model))


def total(costs: Iterable[Decimal | None]) -> tuple[Decimal, int]:
    """The sum of those that are known, and how many are not."""
    from routerkit.types.usage import EXACT

    known, unknown = Decimal(0), 0
    for cost in costs:
        if cost is None:
            unknown += 1
        else:
            known = EXACT.add(known, cost)
    return known, unknown
