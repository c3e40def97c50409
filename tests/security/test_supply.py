"""What is installed and imported: nothing that runs by itself, nothing that makes code of data, nothing that calls home."""

from __future__ import annotations

import ast
import configparser
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import routerkit

PACKAGE = Path(routerkit.__file__).parent
ROOT = PACKAGE.parent
FILES = sorted(path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
MODULES = [path for path in FILES if path.suffix == ".py"]
KINDS = {".py", ".typed", ".json", ".lua", ".html", ".css", ".js"}
"""Of files that the package is made of."""

FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "breakpoint", "input"}
AT_THE_TERMINAL = {("cli/keyboard.py", "input")}
"""A library waits for nobody at a terminal; the interactive chat does nothing else."""
FORBIDDEN_MODULES = {
    "pickle",
    "marshal",
    "shelve",
    "dbm",
    "code",
    "codeop",
    "ctypes",
    "imp",
    "subprocess",
    "telnetlib",
    "ftplib",
}
FORBIDDEN_ATTRIBUTES = {
    "system",
    "popen",
    "execv",
    "execve",
    "spawnv",
    "loads_unsafe",
    "full_load",
    "unsafe_load",
    "mktemp",
}


def found(path: Path) -> list[str]:
    """What a file has that can run data as code, start a program or read Python objects out of bytes."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [each.name for each in node.names if each.name.split(".")[0] in FORBIDDEN_MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in FORBIDDEN_MODULES:
            names.append(str(node.module))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
            names.append(node.func.id)
        elif isinstance(node, ast.Attribute) and node.attr in FORBIDDEN_ATTRIBUTES:
            names.append(node.attr)
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_data_becomes_code(path: Path) -> None:
    """So no dump of state can be loaded either: what is told (`to_dict`, `repr`) only goes out."""
    where = path.relative_to(PACKAGE).as_posix()
    assert [name for name in found(path) if (where, name) not in AT_THE_TERMINAL] == []


def test_the_search_finds_what_it_looks_for(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("import pickle, os\nfrom marshal import loads\neval('1')\nos.system('id')\n")
    assert sorted(found(bad)) == ["eval", "marshal", "pickle", "system"]


OFFLINE = """
import sys
events = []
quiet = ("socket.__new__", "socket.gethostname")
def watch(event, arguments):
    if event.startswith(("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "urllib.", "ftplib.")):
        probe = event == "socket.bind" and arguments[1][0] == "::1"  # urllib3 asks whether there is IPv6
        if event not in quiet and not probe:
            events.append(f"{event} {arguments[1:]}")
    if event in ("os.mkdir", "os.rename", "os.link", "os.symlink", "os.chmod", "tempfile.mkstemp"):
        events.append(f"{event} {arguments}")
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        events.append(f"open {arguments[0]} {arguments[1]}")
sys.addaudithook(watch)
sys.dont_write_bytecode = True
import importlib, pkgutil, routerkit
for module in pkgutil.walk_packages(routerkit.__path__, "routerkit."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
for name in routerkit.__all__:
    getattr(routerkit, name)
client = routerkit.Client(api_key="sk-test-1234567890", base_url="https://gateway.example/v1")
routerkit.AsyncClient(api_key="sk-test-1234567890", base_url="https://gateway.example/v1")
repr(client.health()); client.close()
tenants = [routerkit.Tenant("acme", {"openrouter": "sk-test-1234567890", "infron": ["sk-test-2345678901", "sk-test-3456789012"]})]
for kind in (routerkit.Client, routerkit.AsyncClient):
    several = kind(gateways=["openrouter", "infron"], tenants=tenants, strategy="performance_optimized", performance_cache=True)
    repr([several.tenant("acme").health(), several.usage(), several.stats(), several.with_options(timeout=5)])
    del several  # no call was made: there is nothing to keep
print(events)
"""


def test_nothing_is_fetched_started_or_written_at_import_or_in_a_constructor() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", OFFLINE], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from what a checkout has."""
    pytest.importorskip("setuptools", "77", reason="building needs the setuptools that pyproject.toml names")
    folder = tmp_path_factory.mktemp("source")
    shutil.copytree(PACKAGE, folder / "routerkit", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, folder)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", build, str(folder / "out")], cwd=folder, check=True, timeout=120, capture_output=True
    )
    return zipfile.ZipFile(next((folder / "out").glob("*.whl")))


def test_a_wheel_holds_the_package_and_nothing_that_runs_by_itself(wheel: zipfile.ZipFile) -> None:
    with wheel:
        names = wheel.namelist()
        entry_points = next(wheel.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    assert {name.split("/")[0].split("-")[0] for name in names} == {"routerkit"}
    kinds = {Path(name).suffix for name in names if ".dist-info/" not in name}
    assert kinds <= {*KINDS, ""}
    assert not [name for name in names if name.endswith((".pth", ".so", ".pyd", ".pyc")) or "sitecustomize" in name]
    assert {path.relative_to(ROOT).as_posix() for path in FILES} <= set(names)
    assert entry_points.split() == ["[console_scripts]", "routerkit", "=", "routerkit.cli:main"]


def test_the_package_folder_holds_nothing_else() -> None:
    """What a wheel is made of, for where none can be built."""
    assert {path.suffix for path in FILES} <= KINDS
    assert not [path.name for path in FILES if path.name in ("sitecustomize.py", "usercustomize.py", "conftest.py")]


def test_no_code_runs_at_installation() -> None:
    assert not (ROOT / "setup.py").exists()
    configuration = configparser.ConfigParser()
    configuration.read(ROOT / "setup.cfg")
    assert not [name for section in configuration.values() for name in section if name in ("cmdclass", "data_files")]


def test_dependencies_are_those_whose_holes_are_closed() -> None:
    configuration = configparser.ConfigParser()
    configuration.read(ROOT / "setup.cfg")
    floors = dict(re.findall(r"([a-z0-9-]+)>=([0-9.]+)", configuration["options"]["install_requires"]))
    for name, least in {"urllib3": (2, 6, 3), "requests": (2, 32, 4), "aiohttp": (3, 14), "orjson": (3, 9, 15)}.items():
        assert tuple(map(int, floors[name].split("."))) >= least
