"""The house stands as the design says: arrows go one way, the core is pure, nobody pays for what they don't use."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import routerkit
import routerkit.testing

PACKAGE = Path(routerkit.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

ALLOWED = {
    "errors": {"types"},
    "types": {"types", "errors"},
    "gateways": {"types", "errors"},
    "environment": {"core", "types", "errors"},
    "env_file": {"environment", "types", "errors"},
    "variable_names": {"environment"},
    "tenancy": {"environment", "types", "errors"},
    "config": {"environment", "variable_names", "tenancy", "core", "types", "errors", "gateways"},
    "core": {"core", "types", "errors"},
    "telemetry": {"telemetry", "types", "errors"},
    "transport": {"transport", "core", "types", "errors"},
    "store": {"store", "core", "types", "errors"},
    "facade": {
        "config",
        "environment",
        "env_file",
        "tenancy",
        "core",
        "telemetry",
        "transport",
        "store",
        "types",
        "errors",
    },
    "client": {"facade", "environment", "core", "transport", "store", "types", "errors"},
    "async_client": {"facade", "environment", "core", "transport", "store", "types", "errors"},
    "testing": {"testing", "client", "async_client", "facade", "transport", "core", "types", "errors"},
}
"""Which room may import from which. The command and the package's front door may import from any but `testing`."""

IMPURE = {
    "requests",
    "aiohttp",
    "redis",
    "asyncio",
    "threading",
    "time",
    "random",
    "socket",
    "os",
    "logging",
    "subprocess",
    "io",
    "ssl",
}


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def imports(path: Path) -> set[str]:
    """The modules that a file imports, anywhere in it; of `from a import b` also `a.b`, which may be a module."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_go_one_way(path: Path) -> None:
    here = room("routerkit." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts))
    if here in ("cli", "__init__", "__main__"):
        assert not [module for module in imports(path) if room(module) == "testing"]
        return
    for module in imports(path):
        if module == "routerkit" or module.startswith("routerkit.__version__"):
            continue  # the version, for the User-Agent
        if module.startswith("routerkit."):
            assert room(module) in ALLOWED[here], f"{path.name} in {here} imports {module}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "core").glob("*.py")), ids=lambda path: path.name)
def test_core_is_pure(path: Path) -> None:
    assert not {module.split(".")[0] for module in imports(path)} & IMPURE


def loaded_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(' '.join(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin"},
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import routerkit", {"requests", "aiohttp", "redis", "urllib3", "asyncio", "attr", "orjson", "logging"}),
        (
            "import routerkit; routerkit.Client(api_key='sk-test-1234567890')",
            {"aiohttp", "asyncio", "requests", "backoff", "redis"},
        ),
        (
            "import routerkit; routerkit.Client(dev_mode=True).complete('x', model='a/b')",
            {"aiohttp", "asyncio", "requests", "backoff", "redis"},
        ),
        (
            "import routerkit; routerkit.AsyncClient(api_key='sk-test-1234567890')",
            {"requests", "urllib3", "aiohttp", "backoff", "redis"},
        ),
        ("import routerkit.testing", {"pytest", "attr", "socket", "threading", "asyncio"}),
        (
            "import routerkit.testing as t; t.ScriptedTransport(); t.VirtualRuntime()",
            {"pytest", "requests", "aiohttp", "asyncio", "routerkit.testing.server"},
        ),
        ("import routerkit.testing as t; t.FaultServer()", {"pytest", "requests", "aiohttp", "asyncio"}),
        ("import routerkit.store.redis, routerkit.store.memory", {"redis", "requests", "aiohttp", "asyncio"}),
    ],
)
def test_nobody_pays_for_what_they_do_not_use(code: str, absent: set[str]) -> None:
    assert not loaded_after(code) & absent


def test_a_request_loads_one_http_library() -> None:
    call = "try: c.complete('x', model='a/b')\nexcept routerkit.APIConnectionError: pass"
    sync = loaded_after(f"import routerkit; c = routerkit.Client(base_url='http://127.0.0.1:1/v1')\n{call}")
    assert "requests" in sync
    assert not sync & {"aiohttp", "asyncio"}
    call = (
        "async def main():\n  try: await c.complete('x', model='a/b')\n"
        "  except routerkit.APIConnectionError: pass\n  await c.aclose()\n"
        "asyncio.run(main())"
    )
    task = loaded_after(
        f"import asyncio, routerkit; c = routerkit.AsyncClient(base_url='http://127.0.0.1:1/v1')\n{call}"
    )
    assert "aiohttp" in task
    assert "requests" not in task


def test_every_public_name_is_there() -> None:
    for name in routerkit._HOMES:
        assert getattr(routerkit, name) is not None
        assert name in dir(routerkit)
    assert [name for name in dir(routerkit) if not name.startswith("__")] == sorted(routerkit.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = routerkit.Nothing


def test_every_public_name_for_tests_is_there() -> None:
    for name in routerkit.testing._HOMES:
        assert getattr(routerkit.testing, name) is not None
        assert name in dir(routerkit.testing)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = routerkit.testing.Nothing


def test_files_can_be_read_at_a_sitting() -> None:
    assert {path.name: lines for path in MODULES if (lines := path.read_text().count("\n")) > 500} == {}
