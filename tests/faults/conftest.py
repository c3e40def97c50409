"""A server and the two facades, one after the other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trustme

from routerkit.testing import FaultServer
from tests.support.facades import FACADES, AsyncCaller, SyncCaller
from tests.support.network import Dialled, Names, forget_proxies


@pytest.fixture(scope="module", autouse=True)
def _quickly(few_authorities: None) -> None: ...


@pytest.fixture(params=FACADES)
def facade(request: pytest.FixtureRequest) -> type[SyncCaller | AsyncCaller]:
    return FACADES[request.param]


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """What the machine's resolver says. Proxies of the environment are forgotten."""
    forget_proxies(monkeypatch)
    return Names(monkeypatch)


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> Dialled:
    return Dialled(monkeypatch)


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)
