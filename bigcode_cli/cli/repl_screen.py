"""The screen: the code, a line for a command, a line that tells something, and the toolbar."""

import asyncio
import errno
import textwrap
from collections.abc import Sequence
from typing import Any

from prompt_toolkit.application import Application
from prompt_toolkit.filters import Condition, has_focus, is_done
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.layout import (
    BufferControl,
    ConditionalContainer,
    Dimension,
    Float,
    FloatContainer,
    FormattedTextControl,
    HSplit,
    Layout,
    ScrollOffsets,
    Window,
)
from prompt_toolkit.layout.menus import CompletionsMenu
from prompt_toolkit.lexers import DynamicLexer
from prompt_toolkit.styles import Style
from prompt_toolkit.utils import get_cwidth

from bigcode_cli.cli.render import one_line
from bigcode_cli.cli.repl_desk import Desk
from bigcode_cli.cli.repl_ghost import GhostControl, LineNumbers
from bigcode_cli.cli.repl_keys import key_bindings

MESSAGE_ROWS = 3
ESCAPE_S = 0.1
"""How long an escape character may wait to become an arrow or another key."""
SEQUENCE_S = 0.3
"""How long the first key of a sequence may wait for the next."""

STYLE = {
    "ghost": "italic #808080",
    "line-number": "#808080",
    "error": "bold ansired",
    "bottom-toolbar.key": "bold",
}
COLOURLESS = {"ghost": "italic underline"}
"""What differs where colour cannot tell the ghost from the code."""

Key = tuple[str, str]
"""A key, and what it does now."""


def application(desk: Desk, *, colour: bool) -> Application[None]:
    """What draws the desk and passes keys on."""
    app: Application[None] = Application(
        layout=_layout(desk),
        style=Style.from_dict(STYLE if colour else STYLE | COLOURLESS),
        key_bindings=key_bindings(desk),
        enable_page_navigation_bindings=True,
    )
    app.ttimeoutlen, app.timeoutlen = ESCAPE_S, SEQUENCE_S
    return app


def run(app: Application[None]) -> None:
    """Until it is left, or its terminal goes away.

    Raises:
        Exception: what a key or the drawing came to; the terminal is as it was before.
    """

    def give_up(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if app.future is not None and not app.future.done():
            app.exit(exception=context.get("exception") or RuntimeError(context["message"]))

    def watch() -> None:
        asyncio.get_running_loop().set_exception_handler(give_up)

    try:
        app.run(pre_run=watch, set_exception_handler=False)
    except EOFError:
        return
    except OSError as error:
        if error.errno != errno.EIO:  # how Linux tells that a terminal is gone
            raise


def _layout(desk: Desk) -> Layout:
    def ghost_rows() -> int:
        return desk.shown_ghost.count("\n")

    lexer = DynamicLexer(lambda: desk.lexer)
    code = Window(
        GhostControl(desk.code, lexer, lambda: desk.shown_ghost),
        left_margins=[LineNumbers()],
        wrap_lines=True,
        scroll_offsets=ScrollOffsets(bottom=ghost_rows),
    )
    command = Window(BufferControl(desk.command), height=1)
    page = Window(BufferControl(desk.page), wrap_lines=True)
    message = Window(
        FormattedTextControl(lambda: _message(desk)),
        height=Dimension(max=MESSAGE_ROWS),
        dont_extend_height=True,
        wrap_lines=True,
    )
    toolbar = Window(
        FormattedTextControl(lambda: toolbar_text(desk, desk.app.output.get_size().columns)),
        height=1,
        style="class:bottom-toolbar",
    )
    told = Condition(lambda: desk.message is not None)
    reading = has_focus(page)
    rows = HSplit(
        [
            ConditionalContainer(code, ~reading),
            ConditionalContainer(page, reading),
            ConditionalContainer(command, has_focus(desk.command)),
            ConditionalContainer(message, told & ~is_done),
            ConditionalContainer(toolbar, ~is_done),
        ]
    )
    menu = Float(CompletionsMenu(max_height=8), xcursor=True, ycursor=True)
    return Layout(FloatContainer(rows, [menu]), focused_element=code)


def _message(desk: Desk) -> StyleAndTextTuples:
    if desk.message is None:
        return []
    label = "error: " if desk.message.error else ""
    width = desk.app.output.get_size().columns
    lines = textwrap.wrap(label + desk.message.text, max(len(label) + 1, width - 1))
    text = "\n".join(lines[:MESSAGE_ROWS])
    return [("class:error", label), ("", text.removeprefix(label.rstrip()).lstrip())]


def toolbar_text(desk: Desk, width: int) -> StyleAndTextTuples:
    """Which model works where, and what the keys do now, as far as there is room."""
    keys = _keys(desk)
    states = _states(desk)
    while states[1:] and get_cwidth(states[0]) + _width(keys) > width:
        states = states[1:]
    while keys[1:] and get_cwidth(states[0]) + _width(keys) > width:
        keys = keys[:-1]
    state = _clipped(states[0], max(0, width - _width(keys)))
    gap = max(0, width - _width(keys) - get_cwidth(state))
    text: StyleAndTextTuples = [("", state + " " * gap)]
    for key, meaning in keys:
        text += [("", "  "), ("class:bottom-toolbar.key", key), ("", f" {meaning}")]
    return text


def _states(desk: Desk) -> Sequence[str]:
    """What is told of the model, the fullest first."""
    name, info = one_line(desk.model.name), desk.model.session.info
    if desk.doing:
        return [f" {name} · {one_line(desk.doing)}…", f" {one_line(desk.doing)}…"]
    return [f" {name} · {info.device} · {info.dtype}", f" {name} · {info.device}", f" {name}"]


def _keys(desk: Desk) -> Sequence[Key]:
    if desk.app.layout.has_focus(desk.command):
        return [("Enter", "run"), ("Tab", "complete"), ("Escape", "back")]
    if desk.app.layout.has_focus(desk.page):
        return [("Enter", "back to the code")]
    if desk.doing:
        return [("Ctrl-C", "stop")]
    if desk.ghost:
        return [("Tab", "accept"), ("Escape", "dismiss")]
    if desk.code.text:
        return [("Tab", "complete"), ("Ctrl-O", "command")]
    return [("Tab", "complete"), ("/", "command"), ("Ctrl-D", "leave")]


def _width(keys: Sequence[Key]) -> int:
    return sum(len("  ") + get_cwidth(key) + len(" ") + get_cwidth(text) for key, text in keys) + 1


def _clipped(text: str, width: int) -> str:
    while get_cwidth(text) > width:
        text = text[:-1]
    return text
