"""A question to a chat, as tests ask it."""

from __future__ import annotations

from typing import Any

from workbench.view.widgets import Chat


def asked(chat: Chat, question: str, **more: Any) -> Chat:
    chat.ask(question, **more)
    assert chat.wait()
    assert chat.box.problem == ""
    return chat
