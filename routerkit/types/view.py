"""A tolerant look at what a gateway sent: fields of the wrong type read as if they were missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar


class View:
    """A read-only look at one dict of a gateway's answer. A field that has no attribute of its own here, such as
    ``message.annotations``, is one as it was sent; without it, ``AttributeError``."""

    __slots__ = ("raw",)

    def __init__(self, raw: dict[str, Any]) -> None:
        self.raw = raw

    def to_dict(self) -> dict[str, Any]:
        """The dict as the gateway sent it."""
        return self.raw

    if not TYPE_CHECKING:  # a type checker goes on finding names that are misspelt

        def __getattr__(self, name: str) -> Any:
            if not name.startswith("_") and name != "raw" and name in self.raw:
                return self.raw[name]
            raise AttributeError(
                f"{type(self).__name__} has no {name!r}; what the gateway sent is in .raw", name=name, obj=self
            )

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.raw == self.raw

    __hash__ = None  # type: ignore[assignment]

    def _str(self, name: str) -> str | None:
        value = self.raw.get(name)
        return value if isinstance(value, str) else None

    def _dict(self, name: str) -> dict[str, Any]:
        value = self.raw.get(name)
        return value if isinstance(value, dict) else {}

    def _count(self, name: str) -> int:
        value = self.raw.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


V = TypeVar("V", bound=View)


def views(kind: type[V], raw: Any) -> list[V]:
    return [kind(each) for each in raw if isinstance(each, dict)] if isinstance(raw, list) else []
