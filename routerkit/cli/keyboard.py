"""Reads what is typed at the terminal, with line editing where there is readline. Its history is this session's, and no file's."""

from __future__ import annotations

import glob
import os
import select
import sys
from collections import deque
from collections.abc import Iterator

from routerkit.cli.attachments import well_formed
from routerkit.cli.conversation import COMMANDS, Entry, Typing
from routerkit.cli.terminal import Output

PROMPT, MORE = "> ", "... "


class Keyboard:
    """Reads entries from the terminal, with line editing and a history of this session where there is readline."""

    def __init__(self, stdout: Output) -> None:
        self._stdout = stdout
        self._typing = Typing()
        self._ready: deque[Entry] = deque()
        """Entries that came together with one before them."""
        self._ended = False
        self._pastes_whole = _readline()

    def drop(self) -> None:
        """Forget what was begun."""
        self._typing.drop()
        self._ready.clear()

    def read(self) -> Entry:
        """The next message or command. Raises EOFError for Ctrl-D, KeyboardInterrupt for Ctrl-C."""
        try:
            while not self._ready:
                self._ready.extend(self._typing.feed_all(self._lines()))
            return self._ready.popleft()
        except (EOFError, KeyboardInterrupt):
            self._stdout.text("\n")
            raise

    def _lines(self) -> list[str]:
        """The next line, with those that were pasted together with it. Raises EOFError, KeyboardInterrupt."""
        if self._ended:
            raise EOFError
        lines = [input(MORE if self._typing.unfinished else PROMPT)]
        try:
            while not self._pastes_whole and _waiting():
                lines.append(input())
        except EOFError:
            self._ended = True
        return [well_formed(line) for line in lines]


def _readline() -> bool:
    """Switch on line editing; returns whether what is pasted comes as one, however many lines it has."""
    try:
        import readline
    except ImportError:
        return False
    readline.set_completer(Completer())
    readline.set_completer_delims(" \t\n")
    editline = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if editline else "tab: complete")
    if editline or os.environ.get("TERM", "dumb") == "dumb":
        return False
    readline.parse_and_bind("set enable-bracketed-paste on")
    return True


def _waiting() -> bool:
    """Whether more was typed or pasted already. Only terminals of POSIX can tell."""
    return os.name == "posix" and bool(select.select([sys.stdin], [], [], 0)[0])


class Completer:
    """What the tab key proposes: commands, and the paths that some of them take."""

    def __init__(self) -> None:
        self._found: list[str] = []

    def __call__(self, word: str, state: int) -> str | None:
        if state == 0:
            import readline

            self._found = sorted(proposals(readline.get_line_buffer(), word))
        return self._found[state] if state < len(self._found) else None


def proposals(line: str, word: str) -> Iterator[str]:
    """How the last word of a line may go on."""
    command, blank, _ = line.lstrip().partition(" ")
    if not blank:
        yield from (f"/{name}" for name in COMMANDS if word and f"/{name}".startswith(word))
    elif command in ("/file", "/image", "/audio", "/save"):
        for path in glob.iglob(glob.escape(os.path.expanduser(word)) + "*"):
            yield path + ("/" if os.path.isdir(path) else "")
