"""The interactive chat: reads what is typed, asks, shows. What is said and sent is decided in ``conversation``."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click
import orjson

from routerkit.cli.answers import cost_so_far, show_rest, summary
from routerkit.cli.attachments import Attachment, attached
from routerkit.cli.conversation import COMMANDS, Answer, Conversation, Entry
from routerkit.cli.endings import end
from routerkit.cli.keyboard import Keyboard
from routerkit.cli.near import near
from routerkit.cli.render import price
from routerkit.cli.terminal import Output, one_line
from routerkit.errors import InvalidRequestError, RouterKitError
from routerkit.types.request import checked_model

if TYPE_CHECKING:
    from routerkit.cli.options import Shared
    from routerkit.client import Client
    from routerkit.types.completion import Completion
    from routerkit.types.model import Model

SHOWN = 20
"""Lines of a list."""
_KEPT = "Your message is kept: /retry asks again, /undo takes it back."


class Session:
    """One conversation at the terminal. The command's own words go to stderr, answers to stdout."""

    def __init__(
        self,
        client: Client,
        shared: Shared,
        arguments: dict[str, Any],
        attachments: Sequence[Attachment] = (),
        *,
        system: str | None = None,
        stream: bool = True,
    ) -> None:
        self._client = client
        self._shared = shared
        self._arguments = arguments
        self._stream = stream
        self._conversation = Conversation(arguments.get("model"), system, attachments=[*attachments])
        self._doubted: str | None = None
        """A model that is not in the catalogue, and was asked for once."""
        self._stdout, self._stderr = Output(sys.stdout), Output(sys.stderr)
        self._commands: dict[str, Callable[[str], None]] = {
            name: getattr(self, f"_{name}") for name in COMMANDS if name != "quit"
        }

    def run(self) -> None:
        """Talk until /quit or Ctrl-D. Raises KeyboardInterrupt when Ctrl-C is pressed twice in a row."""
        self._greet()
        keyboard = Keyboard(self._stdout)
        pressed = False
        while True:
            try:
                entry = keyboard.read()
            except EOFError:
                return
            except KeyboardInterrupt:
                keyboard.drop()
                if pressed:
                    raise
                pressed = True
                self._say("(Ctrl-C once more leaves, as does Ctrl-D)")
                continue
            pressed = False
            if entry.command == "quit":
                return
            self._act(entry)

    def _act(self, entry: Entry) -> None:
        try:
            if entry.command is not None:
                self._obey(entry.command, entry.text)
            elif entry.text:
                self._conversation.ask(entry.text)
                self._ask()
        except KeyboardInterrupt:
            self._stdout.text("\n")  # the terminal has shown ^C
            self._say("interrupted")
        except RouterKitError as error:
            end(error, self._shared)
        except click.UsageError as error:
            self._complain(error.message)

    def _obey(self, command: str, argument: str) -> None:
        obey = self._commands.get(command)
        if obey is not None:
            obey(argument)
            return
        meant = near(command, COMMANDS, 1)
        hint = f"did you mean /{meant[0]}? " if meant else ""
        self._complain(f"/{command}: no such command; {hint}/help lists them, // begins a message with a slash")

    # Asking

    def _ask(self) -> None:
        """Have the last message answered. Whatever ends that, the message stays."""
        pieces: list[str] = []
        try:
            answer = self._received(pieces)
        except KeyboardInterrupt:
            self._stdout.text("\n")  # the terminal has shown ^C
            self._broken("".join(pieces))
            return
        except RouterKitError as error:
            self._stdout.end_line()
            end(error, self._shared)
            self._broken("".join(pieces))
            return
        self._conversation.answered(Answer.of(answer))
        line = summary(answer, several_gateways=self._several, streamed=self._stream)
        if not answer.mock:
            line += f" · so far {cost_so_far(self._client.usage().total)}"
        self._say(line)

    def _received(self, pieces: list[str]) -> Completion:
        """The answer, shown as it comes; ``pieces`` receives its text."""
        messages, arguments = self._conversation.messages(), self._asked()
        if not self._stream:
            answer = self._client.complete(messages, **arguments)
            pieces.append(answer.text)
            self._stdout.text(answer.text)
        else:
            with self._client.stream(messages, **arguments) as stream:
                for piece in stream.text():
                    pieces.append(piece)
                    self._stdout.text(piece)
            answer = stream.completion
        show_rest(answer, self._stdout)
        return answer

    def _asked(self) -> dict[str, Any]:
        return {**self._arguments, "model": self._conversation.model}

    def _broken(self, text: str) -> None:
        if self._conversation.cut(text):
            self._say("The answer was cut; what came of it is kept. /retry asks again.")
        else:
            self._say(f"No answer came. {_KEPT}")

    # Commands

    def _help(self, _: str) -> None:
        width = max(len(f"/{name} {takes}") for name, (takes, _) in COMMANDS.items())
        for name, (takes, meaning) in COMMANDS.items():
            self._stdout.line(f"{f'/{name} {takes}':<{width}}  {meaning}")
        self._stdout.line("")
        self._stdout.line('A line that ends in \\ goes on in the next. """ begins and ends a message of several lines.')
        self._stdout.line("Ctrl-C ends an answer, or clears what is typed; twice at the prompt, it leaves.")

    def _model(self, wanted: str) -> None:
        if not wanted:
            self._say(self._answering())
            return
        unknown = None if checked_model(wanted) == self._doubted else self._unknown(wanted)
        self._doubted = wanted if unknown else None
        if unknown:
            self._complain(unknown)
        else:
            self._conversation.model = wanted
            self._say(self._answering())

    def _unknown(self, wanted: str) -> str | None:
        """Why a model cannot be switched to; ``None``: it is known, or nobody can tell."""
        try:
            self._client.model(wanted)
        except InvalidRequestError as error:
            meant = near(wanted, (model.id for model in self._client.models()))
            hint = f" Near it: {', '.join(meant)}." if meant else ""
            return f"{error}.{hint} Say it again to take it all the same."
        except RouterKitError as error:
            self._say(f"(the list of models cannot be read: {one_line(str(error))})")
        return None

    def _models(self, words: str) -> None:
        if not words:
            self._complain("/models: give words to search for")
            return
        found = self._client.models(search=words)
        for model in found[:SHOWN]:
            where = f" on {model.gateway}" if self._several else ""
            self._stdout.line(one_line(f"{model.id}{where}  {prices(model)}"))
        if len(found) > SHOWN:
            self._say(f"... and {len(found) - SHOWN} more")
        elif not found:
            self._say("no model of the catalogue has these words in id or name")

    def _system(self, text: str) -> None:
        if text:
            self._conversation.system_message = None if text == "-" else text
        system = self._conversation.system_message
        self._say("no system message" if system is None else f"system: {system}")

    def _file(self, path: str) -> None:
        self._attach(path, "file")

    def _image(self, path: str) -> None:
        self._attach(path, "image")

    def _audio(self, path: str) -> None:
        self._attach(path, "audio")

    def _attach(self, path: str, modality: str) -> None:
        if not path:
            self._complain(f"/{modality}: give the path of a file")
            return
        attachment = attached(as_path(path), modality)
        self._conversation.attachments.append(attachment)
        self._say(f"attached to the next message: {attachment}")

    def _retry(self, _: str) -> None:
        if self._conversation.exchanges:
            self._ask()
        else:
            self._complain("/retry: nothing was asked yet")

    def _undo(self, _: str) -> None:
        self._say(self._conversation.undo())

    def _clear(self, _: str) -> None:
        self._conversation.clear()
        self._say("forgotten; the model and the system message stay")

    def _cost(self, _: str) -> None:
        report = self._client.usage()
        total, mocked = report.total, self._client.settings.dev_mode is not None
        cost = "no cost: dev mode" if mocked else cost_so_far(total)
        answers = "1 answer" if total.answers == 1 else f"{total.answers:,} answers"
        self._stdout.line(f"{answers} · {total.prompt_tokens:,} + {total.completion_tokens:,} tokens · {cost}")
        if len(report.rows) > 1 and not mocked:
            self._stdout.line(str(report))

    def _save(self, path: str) -> None:
        if not path:
            self._complain("/save: give the path of a new file")
            return
        target = as_path(path)
        try:
            write_new(target, orjson.dumps(self._conversation.to_dict(), option=orjson.OPT_INDENT_2) + b"\n")
        except FileExistsError:
            self._complain(f"{target!r} is there already, and stays as it is: choose another name")
        except OSError as error:
            self._complain(f"{target!r} cannot be written: {error.strerror or error}")
        else:
            self._say(f"saved in {target!r}, readable by you alone")

    def _explain(self, text: str) -> None:
        plan = self._client.explain(self._conversation.next_messages(text), **self._asked())
        lines = [one_line(line) for line in str(plan).splitlines()]
        for line in lines[:SHOWN]:
            self._stdout.line(line)
        if len(lines) > SHOWN:
            self._say(f"... and {len(lines) - SHOWN} more")
        elif not lines:
            self._say("no model would be asked")

    # Saying

    @property
    def _several(self) -> bool:
        return len(self._client.settings.gateways) > 1

    def _greet(self) -> None:
        if self._client.settings.dev_mode:
            self._say("Dev mode: answers are made up, nothing is sent.")
        self._say(f"{self._answering()} /help lists the commands, Ctrl-D leaves. Nothing is kept unless you /save it.")
        for each in self._conversation.attachments:
            self._say(f"attached to your first message: {each}")

    def _answering(self) -> str:
        settings = self._client.settings
        model = self._conversation.model or settings.default_model
        names = ", then ".join(gateway.name for gateway in settings.gateways)
        return f"Model {model} on {names}." if model else f"No model is named: fallbacks or the catalogue of {names}."

    def _say(self, text: str) -> None:
        self._stderr.line(text, "dim")

    def _complain(self, text: str) -> None:
        self._stderr.line(text, "red")


def prices(model: Model) -> str:
    """What a model costs, in a few words."""
    pricing = model.pricing
    if pricing.free:
        return "free"
    if not pricing.known:
        return "price unknown"
    prompt, answer = (price(each, pricing) for each in (pricing.prompt, pricing.completion))
    return f"{prompt} / {answer} per million tokens of prompt / answer"


def as_path(typed: str) -> str:
    """A path as it is typed, or dropped onto the terminal: there may be quotes around it, or backslashes before blanks."""
    path = os.path.expanduser(typed)
    if not os.path.lexists(path):
        with suppress(ValueError):
            words = shlex.split(typed)
            if len(words) == 1:
                return os.path.expanduser(words[0])
    return path


def write_new(path: str, data: bytes) -> None:
    """Write a file that is not there yet, for its owner alone; what cannot be written whole is not left. Raises OSError."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        try:
            file.write(data)
            file.flush()
        except BaseException:
            os.unlink(path)
            raise
