"""Who takes part: where each one's configuration stands, in which environment it runs, and what it is called in the table."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.faults_of_peers.environments import version

OURS = "routerkit"
"""The environment that is the one this runs in."""


@dataclass(frozen=True)
class Contestant:
    peer: str
    """A file of `peers/`, which is its configuration."""
    environment: str
    """A list of `pins/`, or routerkit's own."""
    title: str
    packages: tuple[str, ...] = ()
    """Whose versions are told; the rest is in the list."""
    variables: dict[str, str] = field(default_factory=dict)
    """Environment variables that keep it from reaching for the internet, which would count against it where there is none."""

    @property
    def versions(self) -> str:
        return ", ".join(f"{package} {version(self.environment, package)}" for package in self.packages)


_OFFLINE = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "HF_HUB_OFFLINE": "1"}

CONTESTANTS = (
    Contestant("routerkit_sync", OURS, "routerkit `Client`"),
    Contestant("routerkit_async", OURS, "routerkit `AsyncClient`"),
    Contestant("openai_sdk", "openai", "openai (no fallback)", ("openai",)),
    Contestant("openrouter_sdk", "openrouter", "openrouter (no fallback)", ("openrouter",)),
    Contestant(
        "langchain_fallbacks",
        "langchain",
        "LangChain `with_fallbacks`",
        ("langchain-openrouter", "langchain-core", "openrouter"),
    ),
    Contestant("litellm_sync", "litellm", "litellm `Router`, sync", ("litellm",), _OFFLINE),
    Contestant("litellm_async", "litellm", "litellm `Router`, async", ("litellm",), _OFFLINE),
    Contestant("pydantic_ai_fallback", "pydantic_ai", "pydantic-ai `FallbackModel`", ("pydantic-ai-slim", "openai")),
    Contestant("freelm_priority", "freelm", "freelm", ("freelm",)),
)
