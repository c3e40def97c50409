"""The interactive chat, driven at a real terminal: in dev mode, against the fault server, and with a real model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from routerkit.cli.conversation import COMMANDS
from routerkit.testing import FaultServer, replies
from routerkit.testing.replies import Signal
from tests.support.command import HOSTILE, TAMED, TIME, Terminal, terminal
from tests.support.real_model import HOST, MISSING, MODEL, llama_server

READY = "\x1b[?2004h> "
"""The prompt, as readline shows it."""
MORE = "\x1b[?2004h... "
BELOW = rf"9 \+ 3 tokens · \$0\.00012 · {TIME} \(first token {TIME}\) · "


class Talk:
    """A chat at a terminal."""

    def __init__(self, screen: Terminal) -> None:
        self.screen = screen
        self.greeting = self.until(READY)

    def until(self, text: str) -> str:
        return plain(self.screen.show_next(text.encode()))

    def type(self, keys: str) -> None:
        self.screen.type(keys.encode())

    def enter(self, line: str, until: str = READY) -> str:
        """Type a line; what is shown after it, up to the next prompt."""
        self.type(line + "\r")
        shown = self.until(until)
        return shown.partition("\n")[2].removesuffix("> ")

    def interrupt(self) -> None:
        self.screen.rest()
        self.type("\x03")

    def leave(self, keys: str = "/quit\r") -> int:
        self.type(keys)
        self.rest = plain(self.screen.show_next())
        return self.screen.wait()


@contextmanager
def talk(*arguments: str, **env: str) -> Iterator[Talk]:
    with terminal("chat", *arguments, **{"NO_COLOR": "1", **env}) as screen:
        yield Talk(screen)


def plain(shown: str) -> str:
    """Without what readline tells the terminal."""
    return re.sub("\x1b\\[\\?2004[hl]\r?", "", shown).replace("\r\n", "\n")


def sent(server: FaultServer) -> list[Any]:
    """The messages of the last request."""
    messages: list[Any] = server.chat_requests[-1].json["messages"]
    return messages


def test_a_conversation_in_dev_mode(tmp_path: Path) -> None:
    mock = rf"MOCK answer \(dev mode\) · {{}} · \d+ \+ \d+ tokens · no cost · {TIME}\n"
    with talk("--dev", "-m", "a/b") as chat:
        assert chat.greeting == (
            "Dev mode: answers are made up, nothing is sent.\nModel a/b on openrouter. /help lists the commands,"
            " Ctrl-D leaves. Nothing is kept unless you /save it.\n> "
        )
        assert re.fullmatch(rf"\[mock a/b\] You said: Hello\n{mock.format('a/b')}", chat.enter("Hello"))
        assert chat.enter("") == ""
        assert chat.enter("one\\", MORE) == "... "
        assert chat.enter("two").startswith("[mock a/b] You said: one\ntwo\nMOCK")
        assert chat.enter('"""', MORE) == "... "
        assert chat.enter("  /quit", MORE) == "... "
        assert chat.enter('"""').startswith("[mock a/b] You said:   /quit\nMOCK")
        chat.type("\x1b[200~first\nsecond\x1b[201~\r")  # as terminals paste
        assert "[mock a/b] You said: first\nsecond\nMOCK" in chat.until(READY)
        assert "saved in 'talk.json'" in chat.enter("/save talk.json")
        assert chat.enter("/save talk.json").startswith("'talk.json' is there already, and stays as it is")
        assert chat.enter("/save nowhere/x") == "'nowhere/x' cannot be written: No such file or directory\n"
        assert chat.leave() == 0
    saved = json.loads((tmp_path / "talk.json").read_bytes())
    questions = [each["content"] for each in saved["messages"] if each["role"] == "user"]
    assert questions == ["Hello", "one\ntwo", "  /quit", "first\nsecond"]
    assert [each["mock"] for each in saved["answers"]] == [True] * 4


def test_commands() -> None:
    with talk("--dev", "-m", "a/b") as chat:
        assert [line.split()[0] for line in chat.enter("/help").split("\n\n")[0].splitlines()] == [
            f"/{name}" for name in COMMANDS
        ]
        assert chat.enter("/hlep") == (
            "/hlep: no such command; did you mean /help? /help lists them, // begins a message with a slash\n"
        )
        for line, start in (
            ("/retry", "/retry: nothing was asked yet"),
            ("/undo", "there is nothing to take back"),
            ("/models", "/models: give words"),
            ("/file", "/file: give the path"),
            ("/save", "/save: give the path"),
            ("/image nope.png", "'nope.png': no such file"),
            ("/audio .", "'.' is a folder"),
            ("/system", "no system message"),
            ("/system Be brief", "system: Be brief"),
            ("/system -", "no system message"),
            ("/models zzz", "no model of the catalogue"),
            ("/cost", "0 answers · 0 + 0 tokens · no cost: dev mode"),
            ("/model", "Model a/b on openrouter."),
            ("/model not valid!", "routerkit: model='not valid!': not a model id"),
        ):
            assert chat.enter(line).startswith(start)
        assert "openai/gpt-4o  $2.50 / $10.00 per million tokens" in chat.enter("/models gpt-4o")
        unknown = "model='openai/gpt4o': not in the catalogue of openrouter. Near it: openai/gpt-4o, "
        assert chat.enter("/model openai/gpt4o").startswith(unknown)
        assert chat.enter("Hi").startswith("[mock a/b] You said: Hi\n")
        assert chat.enter("/model openai/gpt-4o:nitro") == "Model openai/gpt-4o:nitro on openrouter.\n"
        assert chat.enter("/model x/y").startswith("model='x/y': not in the catalogue")
        assert chat.enter("/model x/y") == "Model x/y on openrouter.\n"
        assert chat.enter("/retry").startswith("[mock x/y] You said: Hi\n")
        assert chat.enter("/explain").startswith("1. x/y on openrouter: requested by the call\n2. ")
        assert chat.enter("/cost").startswith("2 answers · ")
        assert chat.enter("/undo") == "taken back: Hi\n"
        assert chat.enter("/clear") == "forgotten; the model and the system message stay\n"
        chat.type("/hel\t\r")
        assert "/help            this list" in chat.until(READY)
        assert chat.leave("\x04") == 0
        assert chat.rest.strip() == ""


def test_what_was_said_goes_along_and_costs_add_up(server: FaultServer) -> None:
    server.default = replies.completion(HOSTILE)
    Path("notes.txt").write_text("Buy milk")
    options = ["-m", "a/one", "--system", "Be brief", "--temperature", "0.5", "--file", "notes.txt"]
    with talk(*options, "--base-url", server.url) as chat:
        assert "attached to your first message: notes.txt (text/plain, 8 B)\n" in chat.greeting
        answer, below, rest = chat.enter("Hi").split("\n")
        assert (answer, rest) == (TAMED, "")
        assert re.fullmatch(rf"a/one · {BELOW}so far \$0\.00012", below)
        assert chat.enter("/system Be verbose") == "system: Be verbose\n"
        assert chat.enter("And?").endswith(" · so far $0.00024\n")
        assert chat.enter("/model b/two").startswith("model='b/two': not in the catalogue")
        assert chat.leave("\x04") == 0
    first, second = (request.json for request in server.chat_requests)
    question = {"role": "user", "content": "Hi\n\nnotes.txt:\n```\nBuy milk\n```"}
    assert first["messages"] == [{"role": "system", "content": "Be brief"}, question]
    assert second["messages"] == [
        {"role": "system", "content": "Be verbose"},
        question,
        {"role": "assistant", "content": HOSTILE},
        {"role": "user", "content": "And?"},
    ]
    assert (second["stream"], second["temperature"]) == (True, 0.5)


def test_ctrl_c_ends_an_answer_and_what_came_is_kept(server: FaultServer) -> None:
    server.script("a/one", replies.stream("Hel", replies.pause(Signal())), replies.hang(), replies.completion("Bye"))
    with talk("-m", "a/one", "--base-url", server.url) as chat:
        chat.type("Hi\r")
        chat.until("Hel")
        chat.interrupt()
        assert "\nThe answer was cut; what came of it is kept. /retry asks again.\n" in chat.until(READY)
        assert server.wait_closed()
        chat.type("Go on\r")
        assert server.wait_for(lambda: len(server.chat_requests) == 2)
        chat.interrupt()
        assert "\nNo answer came. Your message is kept: /retry asks again" in chat.until(READY)
        assert server.wait_closed()
        kept = [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hel"},
            {"role": "user", "content": "Go on"},
        ]
        assert sent(server) == kept
        answer, below, _ = chat.enter("/retry").split("\n")
        assert (answer, below.split(" · ")[-1]) == (
            "Bye",
            "so far $0.00012 (not in it: 2 unanswered that may be billed)",
        )
        assert sent(server) == kept
        assert chat.enter("/save talk.json").startswith("saved")
        assert chat.leave() == 0
    answers = json.loads(Path("talk.json").read_text())["answers"]
    assert [(each["message"], each["cut"]) for each in answers] == [(1, True), (3, False)]


def test_ctrl_c_at_the_prompt_clears_and_twice_leaves(server: FaultServer) -> None:
    hint = "(Ctrl-C once more leaves, as does Ctrl-D)\n"
    with talk("-m", "a/one", "--no-stream", "--base-url", server.url) as chat:
        for keys in ("secret", '"""\rsecret'):
            chat.type(keys)
            chat.until("secret")
            chat.interrupt()
            assert chat.until(READY).endswith(f"\n{hint}> ")
            assert chat.enter("Hi").startswith("Hello from a/one\na/one · 9 + 3 tokens")
        assert "secret" not in str([request.json for request in server.chat_requests])
        chat.interrupt()
        assert chat.until(READY).endswith(hint + "> ")
        chat.interrupt()
        assert chat.leave("") == 130
        assert chat.rest.endswith("\nrouterkit: interrupted\n")


def test_an_error_is_told_and_the_message_is_kept(server: FaultServer) -> None:
    limited = replies.error(429, headers={"Retry-After": "900"}, message="slow \x1b[31mdown")
    server.script("a/one", limited, once=True)
    server.script("b/two", replies.stream("Hel", replies.cut()), replies.error(403), replies.completion("Good"))
    server.catalog = replies.error(404)
    with talk("-m", "a/one", "--base-url", server.url) as chat:
        told = chat.enter("Hi")
        assert re.match(r"routerkit: a/one on \S+: .*slow \\x1b\[31mdown", told)
        assert told.endswith("No answer came. Your message is kept: /retry asks again, /undo takes it back.\n")
        switched = chat.enter("/model b/two")
        assert switched.startswith("(the list of models cannot be read: ")
        assert switched.endswith(f"\nModel b/two on 127.0.0.1:{server.port}.\n")
        cut = chat.enter("Are you there?")
        assert cut.startswith("Hel\nrouterkit: b/two on 127.0.0.1")
        assert cut.endswith("\nThe answer was cut; what came of it is kept. /retry asks again.\n")
        assert "the API key may not do this" in chat.enter("/retry")  # and the cut answer stays
        assert chat.enter("Once more").startswith("Good\nb/two · ")
        assert chat.leave() == 0
    assert sent(server) == [
        {"role": "user", "content": "Hi\n\nAre you there?"},
        {"role": "assistant", "content": "Hel"},
        {"role": "user", "content": "Once more"},
    ]


def test_tool_calls_and_refusals_are_shown_and_the_chat_goes_on(server: FaultServer) -> None:
    function = {"name": "weather", "arguments": '{"city": "Paris\\u001b", "days": 3}'}
    call = {"index": 0, "id": "call_7", "type": "function", "function": function}
    refusal = replies.completion("", message={"refusal": "I would rather not"})
    server.script("a/one", replies.completion("", message={"tool_calls": [call]}, finish_reason="tool_calls"), refusal)
    Path("tools.json").write_text('[{"type": "function", "function": {"name": "weather"}}]')
    with talk("-m", "a/one", "--tools", "tools.json", "--base-url", server.url) as chat:
        shown = chat.enter("Weather?")
        assert shown.startswith('tool call: weather\n  city: "Paris\\u001b"\n  days: 3\na/one · ')
        assert " · finish reason: tool_calls · " in shown
        assert chat.enter("So?").startswith("I would rather not\na/one · ")
        assert [each["role"] for each in sent(server)] == ["user", "assistant", "tool", "user"]
        assert chat.leave() == 0
    assert all(request.json["tools"][0]["function"]["name"] == "weather" for request in server.chat_requests)


def test_two_gateways_one_of_them_down(server: FaultServer) -> None:
    with FaultServer() as down:
        down.default = replies.error(503)
        with talk("-m", "a/one", "--gateway", down.url, "--gateway", server.url, NO_COLOR="") as chat:
            greeting = f"Model a/one on 127.0.0.1:{down.port}, then 127.0.0.1:{server.port}."
            assert greeting in chat.greeting
            shown = chat.enter("Hi")
            assert f"\n\x1b[2ma/one on 127.0.0.1:{server.port} · 9 + 3 tokens" in shown
            assert " · before: a/one overloaded (503) · " in shown
            assert chat.enter("/models one").startswith(f"alpha/one on 127.0.0.1:{down.port}  $")
            assert chat.enter("/cost") == "1 answer · 9 + 3 tokens · $0.00012\n"
            assert chat.leave() == 0


def test_a_terminal_that_cannot_tell_what_is_pasted() -> None:
    with terminal("--dev", "chat", "-m", "a/b", TERM="dumb") as screen:
        screen.show_next(b"\n> ")
        screen.type(b"one\rtwo\r/quit\r")
        assert "[mock a/b] You said: one\r\ntwo\r\n" in screen.show_next()
        assert screen.wait() == 0


def test_no_document_of_a_conversation() -> None:
    with terminal("--dev", "chat", "--json") as screen:
        assert "--json needs a PROMPT" in screen.show()
        assert screen.wait() == 2


@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
def test_a_real_model_hears_what_was_said_before() -> None:
    options = ["-m", MODEL, "--max-tokens", "8", "--temperature", "0"]
    with llama_server() as port, talk(*options, "--base-url", f"http://{HOST}:{port}/v1") as chat:
        first, second = (chat.enter(question) for question in ("My name is Ada. Say hello.", "What is my name?"))
        counts = [re.search(rf"{MODEL} · (\d+) \+ 8 tokens · cost unknown", shown) for shown in (first, second)]
        assert all(counts)
        before, after = (int(found[1]) for found in counts if found)
        assert after > before + 8
        assert " · finish reason: length · " in second
        assert " · so far $0.00 (not in it: 2 of unknown cost" in second
        assert chat.enter(f"/model {MODEL}") == f"Model {MODEL} on {HOST}:{port}.\n"
        assert chat.leave() == 0
