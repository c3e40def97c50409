"""Shell completion: the command's scripts, in real shells."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from routerkit.cli import main
from routerkit.cli.completion import SHELLS
from routerkit.cli.program import COMMANDS
from routerkit.core.strategies import STRATEGIES
from tests.support.command import COMMAND, KEY, PATIENCE, environment, run

BASH = shutil.which("bash")
TRY = """
eval "$(routerkit completion bash)"
complete -p routerkit
complete_it() {
    COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); COMPREPLY=()
    _routerkit_completion routerkit "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
    echo "${COMPREPLY[*]}"
}
"""


HEAVY = """
import sys, routerkit.cli as cli
try: cli.main()
except SystemExit: print([name for name in ("rich.table", "requests", "aiohttp", "redis") if name in sys.modules])
"""


@pytest.mark.skipif(BASH is None, reason="no bash here")
def test_in_bash(tmp_path: Path) -> None:
    script = tmp_path / "routerkit"
    script.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    script.chmod(0o755)
    lines = {
        "routerkit mo": "models model",
        "routerkit --dev model meta-": "meta-llama/llama-3.3-70b-instruct meta-llama/llama-3.3-70b-instruct:free",
        "routerkit models --sort co": "completion context",
        "routerkit models --supports tools,str": "tools,structured_outputs",
    }
    text = TRY + "".join(f"complete_it {shlex.join(line.split())}\n" for line in lines)
    env = environment()
    done = subprocess.run(
        [str(BASH), "--norc", "-c", text],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
        cwd=tmp_path,
        env={**env, "PATH": f"{tmp_path}:{env['PATH']}"},
    )
    registered, *replies = done.stdout.splitlines()
    assert registered.endswith("-F _routerkit_completion routerkit")
    assert (replies, done.stderr) == (list(lines.values()), "")


@pytest.mark.parametrize("shell", [*SHELLS])
def test_the_script_is_one(shell: str, tmp_path: Path) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"no {shell} here")
    script = tmp_path / "script"
    script.write_text(run("completion", shell).stdout)
    done = subprocess.run([program, "-n", str(script)], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shell", [*SHELLS])
def test_as_a_document(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert main(["completion", shell]) == 0
    assert capsys.readouterr().out.strip() == document["script"].strip()
    assert document["shell"] == shell
    assert f"_ROUTERKIT_COMPLETE={shell}_complete" in document["script"]


# What is completed


def completed(line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **env: str) -> list[str]:
    """What the command answers the shell, in this process."""
    words = line.split(" ")
    for name, value in {
        "_ROUTERKIT_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        **env,
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        main()
    out, err = capsys.readouterr()
    assert err == ""
    return [each.partition(",")[2] for each in out.split()]


def test_names(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert completed("routerkit ", monkeypatch, capsys) == list(COMMANDS)
    assert completed("routerkit completion ", monkeypatch, capsys) == list(SHELLS)
    assert completed("routerkit explain --strategy ", monkeypatch, capsys) == list(STRATEGIES)
    assert completed("routerkit models --modality image,a", monkeypatch, capsys) == ["image,audio"]
    assert completed("routerkit chat --gateway in", monkeypatch, capsys) == ["infron"]
    assert "--min-context" in completed("routerkit models --m", monkeypatch, capsys)


def test_models_are_those_of_the_settings(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Path(".env").write_text("OPENROUTER_FALLBACK_MODELS=b/one,b/two\n")
    line = "routerkit model "
    env = {"OPENROUTER_DEFAULT_MODEL": "a/default"}
    assert completed(line, monkeypatch, capsys, **env) == ["a/default", "b/one", "b/two"]
    assert completed(line + "b/", monkeypatch, capsys) == ["b/one", "b/two"]
    assert completed("routerkit chat Hi -m a", monkeypatch, capsys) == ["a/default"]
    assert completed("routerkit explain -f ", monkeypatch, capsys, OPENROUTER_TENANT_ACME_API_KEY=KEY)[0] == "a/default"
    assert completed("routerkit --tenant ", monkeypatch, capsys) == ["acme"]
    assert "openai/gpt-4o" in completed(line, monkeypatch, capsys, DEV_MODE="true")
    assert completed(line, monkeypatch, capsys, OPENROUTER_TIMEOUT="soon") == []  # unreadable, and no place to say so


@pytest.mark.parametrize("shell", ["tcsh", ""])
def test_other_shells(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 2
    assert "'bash', 'zsh', 'fish'" in capsys.readouterr().err


def test_completion_is_quick() -> None:
    """A shell waits for it: what the command does not need is not loaded."""
    done = run(
        command=[
            sys.executable,
            "-c",
            HEAVY,
        ],
        _ROUTERKIT_COMPLETE="bash_complete",
        COMP_WORDS="routerkit models --so",
        COMP_CWORD="2",
    )
    assert done.stdout.splitlines() == ["plain,--sort", "[]"]
