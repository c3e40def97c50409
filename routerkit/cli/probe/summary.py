"""What the samples of a sweep come to: figures over all of them, a row for each model, and tables of it for the terminal."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any

import attrs

from routerkit.cli.probe.sample import Sample
from routerkit.cli.probe.words import counted, dollars, in_words, percent
from routerkit.cli.render import add_row, new_table, seconds
from routerkit.types.usage import EXACT

if TYPE_CHECKING:
    from rich.table import Table

BEST = 5
"""How many models the lists of the fastest and the cheapest hold."""

_MEAN = Context(prec=28)


@attrs.frozen(kw_only=True)
class Spread:
    """How a quantity is spread over the answers it is known of.

    Percentiles are by nearest rank: p95 is the smallest value that at least 95 of 100 values do not exceed. So each of them has
    been measured, p50 of two values is the smaller one, and of few values the high percentiles are the largest.
    """

    count: int
    """Answers it is known of."""
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread | None:
        """Of those that are not ``None``; ``None`` when there are none."""
        known = sorted(value for value in values if value is not None)
        if not known:
            return None
        ranked = {f"p{share}": known[-(-share * len(known) // 100) - 1] for share in (50, 90, 95, 99)}
        return cls(count=len(known), mean=statistics.mean(known), min=known[0], max=known[-1], **ranked)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return attrs.asdict(self)


@attrs.frozen(kw_only=True)
class Row:
    """How one model on one gateway did, over all rounds. Figures are means over its answers of which they are known."""

    gateway: str
    model: str
    name: str
    """For people; may be empty."""
    tested: int
    ok: int
    """How many of these questions were answered."""
    first_token: float | None
    """Seconds."""
    duration: float | None
    """Seconds."""
    tokens_per_second: float | None
    prompt_tokens: float | None
    completion_tokens: float | None
    reasoning_tokens: float | None
    """Among ``completion_tokens``."""
    cost: Decimal | None
    """USD for an answer."""
    prompt_price: Decimal | None
    completion_price: Decimal | None
    """USD per token."""
    context_length: int | None
    """Tokens."""
    free: bool
    """Whether the catalogue says that it costs nothing."""
    causes: Mapping[str, int]
    """How many failures each cause has; most frequent first."""
    cause: str
    """Of its last failure; empty without one. So are the next two."""
    error: str
    status: int | None
    text: str
    """How its last answer begins."""
    finish_reason: str | None
    """Of its last answer."""
    mock: bool
    """Whether dev mode made an answer of these up."""

    @property
    def works(self) -> bool:
        """Whether at least half of the questions were answered."""
        return 2 * self.ok >= self.tested

    def named(self, several: bool) -> str:
        """Its id; with the gateway where there are several."""
        return f"{self.model} on {self.gateway}" if several else self.model

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Row:
        """Of the samples of one model on one gateway, at least one, in the order in which they were taken."""
        answers = [sample for sample in samples if sample.ok]
        failures = [sample for sample in samples if not sample.ok]
        costs = [sample.cost for sample in answers if sample.cost is not None]
        latest = samples[-1]
        failure = failures[-1] if failures else None
        return cls(
            gateway=latest.gateway,
            model=latest.model,
            name=latest.name,
            tested=len(samples),
            ok=len(answers),
            first_token=_mean(sample.first_token for sample in answers),
            duration=_mean(sample.duration for sample in answers),
            tokens_per_second=_mean(sample.tokens_per_second for sample in answers),
            prompt_tokens=_mean(sample.prompt_tokens for sample in answers),
            completion_tokens=_mean(sample.completion_tokens for sample in answers),
            reasoning_tokens=_mean(sample.reasoning_tokens for sample in answers),
            cost=_mean_cost(costs),
            prompt_price=latest.prompt_price,
            completion_price=latest.completion_price,
            context_length=latest.context_length,
            free=latest.free,
            causes=_counted(failures),
            cause=failure.cause if failure else "",
            error=failure.error if failure else "",
            status=failure.status if failure else None,
            text=answers[-1].text if answers else "",
            finish_reason=answers[-1].finish_reason if answers else None,
            mock=any(sample.mock for sample in samples),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; money is a decimal string."""
        return {
            name: format(value, "f") if isinstance(value, Decimal) else value
            for name, value in attrs.asdict(self).items()
        }


@attrs.frozen(kw_only=True)
class Summary:
    """A sweep in figures. Those of speed are over the questions that were answered."""

    tested: int
    """Questions put: of ``repeat`` rounds, so many to each model."""
    succeeded: int
    failed: int
    untested: int
    """Questions that were not put, as the sweep ended before."""
    success_rate: float | None
    """0 to 1; ``None`` when no question was put."""
    first_token: Spread | None
    """Seconds."""
    duration: Spread | None
    """Seconds."""
    tokens_per_second: Spread | None
    total_cost: Decimal
    """USD, exactly: the sum of the costs that are known."""
    cost_unknown: int
    """Answers whose cost is not known, and so not in ``total_cost``."""
    unsettled: int
    """Questions that may be charged beside that: they failed, at first or at last, or broke off without a sample."""
    unsettled_cost: Decimal
    """USD that these may cost at most, beside ``total_cost``."""
    unsettled_unknown: int
    """Those of them of which nobody can tell."""
    prompt_tokens: int
    completion_tokens: int
    """Sums of what is known."""
    mocked: int
    """Answers that dev mode made up."""
    causes: Mapping[str, int]
    """How many failures each cause has; most frequent first."""
    models: tuple[Row, ...]
    """Best first: by first token, then those of which none is known, by id."""
    fastest: tuple[Row, ...]
    """The first few of these of which it is known."""
    cheapest: tuple[Row, ...]
    """By the cost of an answer, the faster one first where that is equal; a cost that is not known is never cheap."""

    @classmethod
    def of(cls, samples: Sequence[Sample], untested: int = 0, unsettled: Sequence[Decimal | None] = ()) -> Summary:
        """Of samples in the order in which they were taken. ``unsettled``: USD that questions may cost that have no sample."""
        charges = [*(cost for sample in samples for cost in _besides(sample)), *unsettled]
        answers = [sample for sample in samples if sample.ok]
        rows = rows_of(samples)
        with_cost = [(row.cost, row) for row in rows if row.cost is not None]
        return cls(
            tested=len(samples),
            succeeded=len(answers),
            failed=len(samples) - len(answers),
            untested=untested,
            success_rate=len(answers) / len(samples) if samples else None,
            first_token=Spread.of(sample.first_token for sample in answers),
            duration=Spread.of(sample.duration for sample in answers),
            tokens_per_second=Spread.of(sample.tokens_per_second for sample in answers),
            total_cost=_sum(sample.cost for sample in samples),
            cost_unknown=sum(sample.cost is None for sample in answers),
            unsettled=len(charges),
            unsettled_cost=_sum(charges),
            unsettled_unknown=sum(cost is None for cost in charges),
            prompt_tokens=sum(sample.prompt_tokens or 0 for sample in samples),
            completion_tokens=sum(sample.completion_tokens or 0 for sample in samples),
            mocked=sum(sample.mock for sample in answers),
            causes=_counted(sample for sample in samples if not sample.ok),
            models=tuple(rows),
            fastest=tuple(row for row in rows if row.first_token is not None)[:BEST],
            cheapest=tuple(row for _, row in sorted(with_cost, key=lambda item: item[0]))[:BEST],
        )

    @property
    def several(self) -> bool:
        """Whether there is more than one gateway."""
        return len({row.gateway for row in self.models}) > 1

    @property
    def free(self) -> int:
        """Models that answered and whose answers cost nothing."""
        return sum(row.cost == 0 for row in self.models)

    @property
    def cheapest_paid(self) -> Row | None:
        """The model whose answer cost least, of those whose answers cost something."""
        paid = [(row.cost, place) for place, row in enumerate(self.models) if row.cost]
        return self.models[min(paid)[1]] if paid else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the models' rows: of the fastest and cheapest, gateway, model and the figure."""
        values = {field.name: getattr(self, field.name) for field in attrs.fields(Summary)}
        del values["models"]
        for name in ("first_token", "duration", "tokens_per_second"):
            values[name] = values[name] and values[name].to_dict()
        for name in ("total_cost", "unsettled_cost"):
            values[name] = format(values[name], "f")
        values["causes"] = dict(self.causes)
        values["fastest"] = [_figure(row, "first_token") for row in self.fastest]
        values["cheapest"] = [_figure(row, "cost") for row in self.cheapest]
        return values


def rows_of(samples: Iterable[Sample]) -> list[Row]:
    """A row for each model on each gateway; best first."""
    groups: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.gateway, sample.model), []).append(sample)
    return sorted(map(Row.of, groups.values()), key=_by_speed)


def summary_tables(summary: Summary) -> list[Table | str]:
    """What the terminal shows of it, from top to bottom: tables, and lines between them (an empty one is a space)."""
    shown: list[Table | str] = [_key_figures(summary)]
    spreads = {"first token": summary.first_token, "total": summary.duration}
    if any(spreads.values()) or summary.tokens_per_second:
        shown += ["", _spreads(spreads, summary.tokens_per_second)]
    if summary.causes:
        shown += ["", _causes(summary)]
    if summary.fastest:
        shown += ["", _best(f"fastest {len(summary.fastest)}", summary.fastest, summary.several)]
    if summary.cheapest:
        shown += ["", _best(f"cheapest {len(summary.cheapest)}", summary.cheapest, summary.several)]
    if note := of_the_free(summary):
        shown.append(note)
    return shown


def of_the_free(summary: Summary) -> str:
    """What is to be added to the cheapest when those that cost nothing have taken all places; else empty."""
    if summary.free < BEST:
        return ""
    least = summary.cheapest_paid
    others = f"; of the others, {least.named(summary.several)} cost least: {dollars(least.cost)}" if least else ""
    return f"{counted(summary.free, 'model')} answered for nothing{others}"


def of_the_unsettled(summary: Summary) -> str:
    """What may be charged beside the total cost; else empty."""
    if not summary.unsettled:
        return ""
    unknown = f", and nobody can tell for {summary.unsettled_unknown:,}" if summary.unsettled_unknown else ""
    return f"at most {dollars(summary.unsettled_cost)}{unknown}: {counted(summary.unsettled, 'question')} that failed or broke off"


def _besides(sample: Sample) -> Iterator[Decimal | None]:
    """What a question may be charged for beside the cost of its answer, if for anything; ``None``: nobody can tell how much."""
    if sample.ok and sample.cost is None:
        return
    rest = None if sample.charged is None else EXACT.subtract(sample.charged, sample.cost or Decimal(0))
    if rest is None or rest > 0:
        yield rest


def _counted(failures: Iterable[Sample]) -> dict[str, int]:
    """How many there are of each cause; most frequent first."""
    causes = Counter(failure.cause for failure in failures)
    return dict(sorted(causes.items(), key=lambda item: (-item[1], item[0])))


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(statistics.mean(known)) if known else None


def _mean_cost(costs: Sequence[Decimal]) -> Decimal | None:
    """Exact for one, and to 28 digits for more."""
    if len(costs) < 2:
        return costs[0] if costs else None
    return _MEAN.divide(_sum(costs), len(costs))


def _sum(costs: Iterable[Decimal | None]) -> Decimal:
    total = Decimal(0)
    for cost in costs:
        if cost is not None:
            total = EXACT.add(total, cost)
    return total


def _by_speed(row: Row) -> tuple[bool, float, str, str]:
    return row.first_token is None, row.first_token or 0.0, row.model, row.gateway


def _figure(row: Row, name: str) -> dict[str, Any]:
    whole = row.to_dict()
    return {key: whole[key] for key in ("gateway", "model", name)}


def _key_figures(summary: Summary) -> Table:
    table = new_table()
    table.show_header = False
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    models = len(summary.models)
    tested = (
        counted(models, "model")
        if summary.tested == models
        else f"{counted(summary.tested, 'question')} to {counted(models, 'model')}"
    )
    left = f" ({counted(summary.untested, 'question')} not put)" if summary.untested else ""
    cost = f" + {counted(summary.cost_unknown, 'answer')} of unknown cost" if summary.cost_unknown else ""
    add_row(table, "tested", tested + left)
    add_row(table, "succeeded", f"{summary.succeeded:,}")
    add_row(table, "failed", f"{summary.failed:,}")
    add_row(table, "success rate", "-" if summary.success_rate is None else percent(summary.success_rate))
    add_row(table, "total cost", dollars(summary.total_cost) + cost)
    if note := of_the_unsettled(summary):
        add_row(table, "not settled", note)
    add_row(table, "tokens", f"{summary.prompt_tokens:,} in, {summary.completion_tokens:,} out")
    if summary.mocked:
        add_row(table, "mocked", f"{summary.mocked:,}: dev mode made these answers up, no model was asked")
    return table


def _spreads(times: Mapping[str, Spread | None], rate: Spread | None) -> Table:
    names = ("mean", "p50", "p90", "p95", "p99", "min", "max")
    table = new_table()
    table.add_column("of the answers", style="bold")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    rows: list[tuple[str, Spread | None, Callable[[float], str]]] = [(name, of, seconds) for name, of in times.items()]
    for name, spread, shown in [*rows, ("tokens/s", rate, lambda value: f"{value:,.0f}")]:
        if spread is not None:
            add_row(table, name, *(shown(getattr(spread, each)) for each in names))
    return table


def _causes(summary: Summary) -> Table:
    table = new_table()
    table.add_column("failures by cause", style="bold", overflow="ellipsis", no_wrap=True)
    table.add_column("count", justify="right", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
    table.add_column("models", overflow="fold")
    for cause, count in summary.causes.items():
        models = [row.named(summary.several) for row in summary.models if cause in row.causes]
        more = f" and {len(models) - 2} more" if len(models) > 2 else ""
        add_row(table, in_words(cause), f"{count:,}", percent(count / summary.failed), ", ".join(models[:2]) + more)
    return table


def _best(title: str, rows: Sequence[Row], several: bool) -> Table:
    table = new_table()
    table.add_column(title, style="bold", overflow="fold")
    for name in ("first token", "total", "cost"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        times = ("-" if value is None else seconds(value) for value in (row.first_token, row.duration))
        add_row(table, row.named(several), *times, dollars(row.cost))
    return table
