"""What all tests share: how many examples the property tests look at, and what keeps the suite itself from taking time.

The ordinary run is short and always the same. ``pytest --hypothesis-profile=long`` looks at many more examples, new ones each
time; what it finds it keeps in ``.hypothesis``, prints, and tries first the next time.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

_BASE = settings(
    deadline=None,
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),  # to explain takes longer than to find
)

settings.register_profile("ordinary", _BASE, max_examples=40, derandomize=True)
settings.register_profile("long", _BASE, max_examples=5000, print_blob=True)
settings.load_profile("ordinary")  # before the option is read, which so overrides it

# Bytecode is kept, whatever the environment says. Else each worker rewrites the asserts of all tests in each run, and each process
# that a test starts compiles the package anew, which takes it longer than what it was started for.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Thousands of tests are a million objects, all of which stay: whoever looks for garbage later need not go through them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Who hands tests out to other processes has run none: he has the reports of all, and pytest is about to look for garbage."""
    if session.config.pluginmanager.has_plugin("dsession"):
        gc.freeze()


@pytest.fixture(scope="module")
def few_objects() -> None:
    """Who looks for garbage after each of these tests need not go through what the tests before them left."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def _some_authorities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the first few of certifi's."""
    from certifi import where

    end = "-----END CERTIFICATE-----\n"
    file = tmp_path_factory.mktemp("authorities") / "some.pem"
    file.write_text("".join(each + end for each in Path(where()).read_text("utf-8").split(end)[:5]), "utf-8")
    return file


@pytest.fixture(scope="module")
def few_authorities(_some_authorities: Path) -> Iterator[None]:
    """Clients trust a few of the public authorities only: to read all of them takes each client longer than most tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("routerkit.transport.tls.where", lambda: str(_some_authorities))
        yield
