"""The logic of a conversation, without a terminal: what is typed, what is sent, what is kept."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routerkit.cli.attachments import Attachment
from routerkit.cli.conversation import NOT_RUN, Answer, Conversation, Entry, Exchange, Typing, entry_of
from routerkit.cli.interactive import as_path, prices, write_new
from routerkit.cli.keyboard import proposals
from routerkit.cli.near import near
from routerkit.types.model import Model, Pricing

IMAGE = {"type": "image_url", "image_url": {"url": "https://a.example/x.png"}}
CALL = {"id": "call_7", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
user = {"role": "user"}.__or__
said = {"role": "assistant"}.__or__


# What is typed


@pytest.mark.parametrize(
    ("typed", "entry"),
    [
        (" Hello ", Entry("Hello")),
        ("", Entry("")),
        ("/model a/b", Entry("a/b", "model")),
        ("  /MODEL   a/b  ", Entry("a/b", "model")),
        ("/reset", Entry("", "clear")),
        ("/exit", Entry("", "quit")),
        ("/bogus x y", Entry("x y", "bogus")),
        ("/etc/passwd is what?", Entry("/etc/passwd is what?")),
        ("/", Entry("/")),
        ("//model is a command", Entry("/model is a command")),
        ("/model a\nand more", Entry("/model a\nand more")),
    ],
)
def test_commands_and_messages(typed: str, entry: Entry) -> None:
    assert entry_of(typed) == Typing().feed(typed) == entry


@pytest.mark.parametrize(
    ("lines", "entry"),
    [
        (["one\\", "two\\", " three "], Entry("one\ntwo\n three")),
        (["/save \\", "x"], Entry("/save \nx")),
        (["a path C:\\\\"], Entry("a path C:\\\\")),
        (["one\ntwo"], Entry("one\ntwo")),
        (["one\\", "two\nthree"], Entry("one\ntwo\nthree")),
        (['"""', "  one", "", "/quit", 'two """ in it', '"""'], Entry('  one\n\n/quit\ntwo """ in it')),
        (['"""one', 'two"""'], Entry("one\ntwo")),
        (['"""/quit"""'], Entry("/quit")),
        (['"""\none\ntwo\n"""'], Entry("one\ntwo")),
        (['"""', " ", '"""'], Entry("")),
        (['""""""'], Entry("")),
    ],
)
def test_several_lines_are_one_entry(lines: list[str], entry: Entry) -> None:
    typing = Typing()
    *before, last = lines
    for line in before:
        assert typing.feed(line) is None
        assert typing.unfinished
    assert typing.feed(last) == entry
    assert not typing.unfinished


def test_what_was_begun_can_be_dropped() -> None:
    typing = Typing()
    for line in ('"""', "one\\"):
        assert typing.feed(line) is None
        typing.drop()
        assert (typing.unfinished, typing.feed("two")) == (False, Entry("two"))


def test_lines_that_come_at_once_are_one_message_but_for_commands() -> None:
    lines = ["one", "two", "/model a/b", "/cost", "three"]
    expected = [Entry("one\ntwo"), Entry("a/b", "model"), Entry("", "cost"), Entry("three")]
    assert Typing().feed_all(lines) == expected
    assert Typing().feed_all(['"""', "one", "/quit", '"""']) == [Entry("one\n/quit")]


@given(st.lists(st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters='"\n\r')), min_size=1))
def test_a_block_is_sent_as_it_is(lines: list[str]) -> None:
    typing = Typing()
    for line in ('"""', *lines):
        assert typing.feed(line) is None
    text = "\n".join(lines)
    assert typing.feed('"""') == Entry(text if text.strip() else "")


@given(st.text(), st.booleans())
def test_any_line_is_understood_or_goes_on(line: str, in_block: bool) -> None:
    typing = Typing()
    if in_block:
        typing.feed('"""')
    assert (typing.feed(line) is None) == typing.unfinished


# What is sent


def answered(conversation: Conversation, question: str, text: str, **more: Any) -> None:
    conversation.ask(question)
    conversation.answered(Answer(text=text, **more))


def test_a_conversation_is_sent_whole_and_without_reasoning() -> None:
    talk = Conversation(system_message="Be brief", attachments=[Attachment("x.png", part=IMAGE)])
    answered(talk, "What is it?", "A cat")
    talk.ask("Sure?")
    before = [
        {"role": "system", "content": "Be brief"},
        user({"content": [{"type": "text", "text": "What is it?"}, IMAGE]}),
        said({"content": "A cat"}),
    ]
    assert talk.messages() == [*before, user({"content": "Sure?"})]
    talk.answered(Answer(text="Yes"))
    assert talk.messages() == [*before, user({"content": "Sure?"})]  # asked again
    assert talk.next_messages("Bye") == [
        *before,
        user({"content": "Sure?"}),
        said({"content": "Yes"}),
        user({"content": "Bye"}),
    ]
    assert len(talk.exchanges) == 2


def test_a_message_without_an_answer_goes_along_with_the_next_one() -> None:
    talk = Conversation()
    talk.ask("One")
    assert not talk.cut(" \n")
    talk.ask("Two")
    assert talk.messages() == [user({"content": "One\n\nTwo"})]
    talk.attachments = [Attachment("x.png", part=IMAGE)]
    talk.ask("")
    talk.answered(Answer(text=" "))  # nothing that could be sent back
    parts = [{"type": "text", "text": "One"}, {"type": "text", "text": "Two"}, IMAGE]
    assert talk.next_messages("") == [user({"content": parts})]
    assert talk.undo() == "taken back: (an attachment)"
    assert talk.undo() == "taken back: Two"
    assert talk.messages() == [user({"content": "One"})]


def test_what_came_of_an_answer_is_kept_and_nothing_is_lost_when_nothing_came() -> None:
    talk = Conversation(model="a/b")
    answered(talk, "One", "Whole")
    assert not talk.cut("")
    assert talk.exchanges == [Exchange("One", Answer(text="Whole"))]
    assert talk.cut("Ha")
    assert talk.exchanges == [Exchange("One", Answer(text="Ha", model="a/b", cut=True))]
    assert talk.next_messages("Go on")[1] == said({"content": "Ha"})


def test_tool_calls_are_answered_in_their_place() -> None:
    talk = Conversation()
    answered(talk, "Weather?", "", tool_calls=(CALL, {"function": {"name": None, "arguments": "{"}}, {}))
    unnamed = {"name": "unnamed", "arguments": "{}"}
    calls = [CALL, *({"id": f"call_{place}", "type": "function", "function": unnamed} for place in (2, 3))]
    assert talk.next_messages("So?") == [
        user({"content": "Weather?"}),
        said({"content": None, "tool_calls": calls}),
        *({"role": "tool", "tool_call_id": call["id"], "content": NOT_RUN} for call in calls),
        user({"content": "So?"}),
    ]


def test_taking_back() -> None:
    talk = Conversation(model="a/b", system_message="Be brief")
    assert talk.undo() == "there is nothing to take back"
    answered(talk, "word " * 30, "Hm")
    talk.attachments = [Attachment("x\x1b.png", part=IMAGE, kind="image/png", size=2048)]
    assert talk.undo() == "no longer attached: x\\x1b.png (image/png, 2 KiB)"
    assert talk.undo() == "taken back: " + ("word " * 30)[:59] + "…"
    answered(talk, "One", "Two")
    talk.attachments = [Attachment("x", text="y")]
    talk.clear()
    assert talk == Conversation(model="a/b", system_message="Be brief")


def test_what_is_saved() -> None:
    talk = Conversation(model="a/b", system_message="Be brief")
    usage = {"prompt_tokens": 3}
    answered(talk, "One", "Two", model="a/b-1", gateway="g", usage=usage, cost=Decimal("0.00012"), tool_calls=(CALL,))
    talk.ask("Three")
    assert talk.cut("Fo")
    talk.ask("Five")
    saved = talk.to_dict()
    assert saved["model"] == "a/b"
    assert saved["messages"] == talk.messages()
    known = {"model": "a/b-1", "gateway": "g", "usage": usage, "cost": "0.00012", "mock": False, "cut": False}
    nothing = {"model": "a/b", "gateway": None, "usage": {}, "cost": None, "mock": False, "cut": True}
    assert saved["answers"] == [{"message": 2, **known}, {"message": 5, **nothing}]
    assert [saved["messages"][each["message"]]["role"] for each in saved["answers"]] == ["assistant"] * 2


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.text(min_size=1)),
        st.tuples(st.just("answer"), st.text()),
        st.tuples(st.just("cut"), st.text()),
        st.tuples(st.just("attach"), st.text(min_size=1)),
        st.tuples(st.sampled_from(["undo", "clear", "call"]), st.just("")),
    )
)


@given(STEPS, st.none() | st.text())
def test_roles_take_turns_and_no_message_is_lost(steps: list[tuple[str, str]], system: str | None) -> None:
    talk = Conversation(system_message=system)
    for step, text in steps:
        if step == "ask":
            talk.ask(text)
        elif step == "attach":
            talk.attachments.append(Attachment(text, part=IMAGE))
        elif step in ("undo", "clear"):
            getattr(talk, step)()
        elif talk.exchanges and step == "cut":
            talk.cut(text)
        elif talk.exchanges:
            talk.answered(Answer(text=text, tool_calls=(CALL,) if step == "call" else ()))
    sent = talk.next_messages("last")
    head = [] if system is None else [{"role": "system", "content": system}]
    assert sent[: len(head)] == head
    del sent[: len(head)]
    turns = "".join(message["role"][0] for message in sent)
    assert re.fullmatch("(uat*)*u", turns)
    assert json.dumps(sent).count(json.dumps(IMAGE)) == sum(
        json.dumps(each.question).count(json.dumps(IMAGE)) for each in talk.exchanges
    ) + len(talk.attachments)
    whole = "\0".join(_texts(sent))
    assert all(text in whole for each in talk.exchanges for text in _texts([{"content": each.question}]))


def _texts(messages: list[dict[str, Any]]) -> Iterator[str]:
    for message in messages:
        content = message["content"]
        if isinstance(content, str):
            yield content
        elif content is not None:
            yield from (part["text"] for part in content if part["type"] == "text")


# Small things


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gpt-4o", ["openai/gpt-4o", "openai/gpt-4o-mini"]),
        ("openai/gpt4o", ["openai/gpt-4o", "openai/gpt-4o-mini"]),
        ("Sonnet Claude", ["anthropic/claude-sonnet-4.5"]),
        ("claude-sonet-4.5", ["anthropic/claude-sonnet-4.5"]),
        ("zzz", []),
        ("", []),
    ],
)
def test_near(name: str, expected: list[str]) -> None:
    ids = ["openai/gpt-4o-mini", "openai/gpt-4o", "anthropic/claude-sonnet-4.5", "openai/gpt-4o"]
    assert near(name, ids) == expected


def test_paths_as_they_are_typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("my photo.png").touch()
    Path("it's").touch()
    assert as_path("~/x") == f"{tmp_path}/x"
    assert as_path("my photo.png") == as_path("'my photo.png'") == as_path("my\\ photo.png") == "my photo.png"
    assert as_path("it's") == "it's"
    assert as_path("isn't") == "isn't"
    assert as_path("'~/x'") == f"{tmp_path}/x"


def test_what_the_tab_key_proposes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("photo[1].png").touch()
    Path("photos").mkdir()
    assert sorted(proposals("/mo", "/mo")) == ["/model", "/models"]
    assert list(proposals("", "")) == list(proposals("Hello /mo", "/mo")) == list(proposals("/model ph", "ph")) == []
    assert sorted(proposals("/file ph", "ph")) == ["photo[1].png", "photos/"]
    assert list(proposals("/save photo[", "photo[")) == ["photo[1].png"]
    assert list(proposals("/image ~/photos", "~/photos")) == [f"{tmp_path}/photos/"]


def test_prices() -> None:
    free, none = Pricing(prompt=Decimal(0), completion=Decimal(0)), Pricing()
    some = Pricing(prompt=Decimal("0.00000015"), completion=Decimal("0.0000006"))
    told = [prices(Model("a/b", pricing=each)) for each in (free, none, some)]
    assert told == ["free", "price unknown", "$0.15 / $0.60 per million tokens of prompt / answer"]


def test_what_is_saved_is_private_whole_and_never_written_over() -> None:
    write_new("talk.json", b"mine")
    assert Path("talk.json").stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        write_new("talk.json", b"another")
    assert Path("talk.json").read_bytes() == b"mine"
    with pytest.raises(TypeError):
        write_new("broken.json", None)  # type: ignore[arg-type]
    assert not Path("broken.json").exists()
