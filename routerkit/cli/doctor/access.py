"""The sections "gateways" and "keys": where each gateway is, which keys there are for it, and what it says of them."""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Iterator
from decimal import Decimal
from urllib.parse import urlsplit

from routerkit.cli.doctor.check import KEY, Check, failed, ok, skipped, warning
from routerkit.cli.doctor.subject import Owned, Subject
from routerkit.cli.endings import exit_code
from routerkit.cli.render import money
from routerkit.core.key_info import read_key_info
from routerkit.errors import APIError, RouterKitError
from routerkit.gateways import KNOWN
from routerkit.types.gateway import Gateway, is_loopback
from routerkit.types.key_info import KeyInfo
from routerkit.types.secret import Credential

KEY_FORMS = {"openrouter": "sk-or-"}
"""How a gateway's keys begin, where it is known."""
FOREIGN_FORMS = {
    "sk-or-": "OpenRouter",
    "sk-ant-": "Anthropic",
    "sk-proj-": "OpenAI",
    "gsk_": "Groq",
    "xai-": "xAI",
    "AIza": "Google",
    "hf_": "Hugging Face",
}
MAX_KEYS = 20
"""Keys that are asked about, of all tenants together."""
LOW = Decimal(1)
"""US dollars, or a tenth of the limit if that is less: what is left is little."""
SOON = 14
"""Days in which a key or a certificate ends soon."""

_PLACEHOLDER = re.compile(r"(.)\1{7}|your|change.?me|example|placeholder|\.\.\.$|<|>", re.IGNORECASE)


def places(subject: Subject) -> Iterator[Check]:
    """Each gateway's address, and the look of its keys."""
    if subject.settings is None:
        yield skipped("gateways", subject.obstacle)
        return
    for gateway in subject.gateways:
        yield _address(gateway)
        keys = subject.keys(gateway)
        for owned in keys[:MAX_KEYS]:
            yield _form(subject, owned)
        if not keys:
            yield _no_key(subject, gateway)


def _address(gateway: Gateway) -> Check:
    usual = KNOWN.get(gateway.name)
    aside = "" if usual is None or usual.base_url == gateway.base_url else f", not its own {usual.base_url}"
    if gateway.base_url.startswith("http:"):
        aside += "; in the clear, on this machine only"
    if gateway.ca_file is not None:
        aside += f"; trusts the authorities in {gateway.ca_file} besides"
    facts = {"base_url": gateway.base_url, "details_url": gateway.details_url, "ca_file": gateway.ca_file}
    return ok(f"gateway {gateway.name}", f"{gateway.base_url}{aside}", **facts)


def _no_key(subject: Subject, gateway: Gateway) -> Check:
    name = f"key of {gateway.name}"
    if subject.dev:
        return ok(name, "none, and dev mode needs none")
    if any("_API_KEY" in str(error) or "API key" in str(error) for error in subject.problems):
        return skipped(name, "there is none that can be used (see settings)")
    if gateway.needs_key and subject.settings is not None and not subject.settings.tenants:
        return failed(name, "there is none", "set its API_KEY", KEY)
    return ok(name, "none: it is asked without one")


def _form(subject: Subject, owned: Owned) -> Check:
    """Whether a key looks like one of its gateway's. What it is, the gateway alone knows."""
    key, gateway = owned.secret.reveal(), owned.gateway
    holder = f"from {owned.variable} ({subject.source(owned.variable)})" if owned.variable else "from no variable"
    facts = {
        "fingerprint": owned.secret.fingerprint,
        "variable": owned.variable or None,
        "tenant": owned.tenant or None,
    }
    if _PLACEHOLDER.search(key):
        return warning(owned.name, f"{holder}, looks like a placeholder", "put the real key in its place", **facts)
    doubt = _doubt(key, gateway)
    if doubt:
        return warning(owned.name, f"{holder}, {doubt}", "see whether it is that of another service", **facts)
    return ok(owned.name, holder, **facts)


def _doubt(key: str, gateway: Gateway) -> str:
    """Why a key does not look like one of the gateway's; nothing where it does, or where nobody knows how they look."""
    form = KEY_FORMS.get(gateway.name, "")
    if gateway.name not in KNOWN or (form and key.startswith(form)):
        return ""
    foreign = next((whose for start, whose in FOREIGN_FORMS.items() if key.startswith(start)), None)
    if foreign is not None:
        return f"looks like a key of {foreign}'s"
    return f"does not begin with {form}" if form else ""


# --- what the gateway says of it ---


def accepted(subject: Subject) -> Iterator[Check]:
    """Each key, as its gateway tells of it."""
    if subject.settings is None:
        yield skipped("keys", subject.obstacle)
        return
    for gateway in subject.gateways:
        for owned in subject.keys(gateway)[:MAX_KEYS]:
            why = subject.obstacle_to(gateway.base_url)
            if not why and gateway.key_path is None:
                label = gateway.label or gateway.name
                why = f"{label} tells nothing about keys; only a paid call would show it (--ask MODEL makes one)"
            yield skipped(f"{owned.name}: accepted", why) if why else _asked(subject, owned)


def _asked(subject: Subject, owned: Owned) -> Check:
    name = f"{owned.name}: accepted"
    credential = Credential(owned.secret, owned.gateway.base_url)
    try:
        info = subject.drive(read_key_info(owned.gateway, credential, subject.timeouts, subject.runtime))
    except APIError as error:
        if error.status_code in (404, 405):
            host = urlsplit(owned.gateway.base_url).hostname or ""
            where = "the server on this machine" if is_loopback(host) else host
            return skipped(name, f"{where} tells nothing about keys (HTTP {error.status_code})")
        return failed(name, str(error), _remedy(error), exit_code(error))
    except RouterKitError as error:
        return failed(name, str(error), _remedy(error), exit_code(error))
    return judged(name, info, time.time())


def _remedy(error: RouterKitError) -> str:
    return {
        5: "see the gateway's page of keys: is it this account's, and not revoked? Then set it anew",
        6: "wait, and ask again",
        7: "see the section network",
    }.get(exit_code(error), "ask again later; is the base URL right?")


def judged(name: str, info: KeyInfo, wall: float) -> Check:
    """What a key's figures mean. ``wall``: now, in Unix seconds."""
    told, facts = "accepted; " + _figures(info), {"key": info.to_dict()}
    ends = _ends(info.expires_at)
    days = None if ends is None else (ends - wall) / 86_400
    if days is not None and days <= 0:
        return failed(name, f"it ended on {info.expires_at}", "make a new key at the gateway", KEY, **facts)
    left, balance = info.limit_remaining, info.balance
    if left is not None and left <= 0:
        reset = f", or wait for its {info.limit_reset} reset" if info.limit_reset else ""
        return failed(
            name, f"{told}: its limit is used up", f"raise the key's limit at the gateway{reset}", KEY, **facts
        )
    if balance is not None and balance <= 0 and (balance < 0 or not info.is_free_tier):
        return failed(name, f"{told}: no credit is left", "buy credits at the gateway", KEY, **facts)
    if balance is not None and balance <= 0:
        return warning(name, f"{told}: free models only", "buy credits at the gateway for the others", **facts)
    if left is not None and left < min(LOW, LOW if info.limit is None else info.limit / 10):
        return warning(name, f"{told}: little is left of its limit", "raise it in time", **facts)
    if balance is not None and balance < LOW:
        return warning(name, f"{told}: little credit is left", "buy credits in time", **facts)
    if days is not None and days < SOON:
        return warning(
            name, f"{told}: it ends in {days:.0f} days, on {info.expires_at}", "make a new one in time", **facts
        )
    return ok(name, told, **facts)


def _figures(info: KeyInfo) -> str:
    parts = []
    if info.limit is not None:
        left = "" if info.limit_remaining is None else f"{money(info.limit_remaining)} of "
        reset = f" ({info.limit_reset})" if info.limit_reset else ""
        parts.append(f"limit {left}{money(info.limit)}{reset}")
    else:
        parts.append("no limit of its own")
    if info.usage is not None:
        parts.append(f"used {money(info.usage)}")
    parts.append("credits not told to this key" if info.balance is None else f"credits {money(info.balance)}")
    if info.is_free_tier:
        parts.append("free tier")
    return ", ".join(parts)


def _ends(text: str | None) -> float | None:
    """Unix seconds of an ISO date and time; ``None`` when it is none."""
    try:
        at = datetime.datetime.fromisoformat((text or "").replace("Z", "+00:00"))
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=datetime.timezone.utc)).timestamp()
