"""What each key does. Whatever is not here is as readline has it."""

from prompt_toolkit.filters import Condition, has_focus
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.key_binding.bindings.named_commands import get_by_name
from prompt_toolkit.keys import Keys

from bigcode_cli.cli.repl_desk import Desk


def key_bindings(desk: Desk) -> KeyBindings:
    """The keys of the code, of the command line, of the page, and of all."""
    keys = KeyBindings()
    _bind_all(keys, desk)
    _bind_code(keys, desk)
    _bind_command(keys, desk)
    _bind_page(keys, desk)
    return keys


def _bind_all(keys: KeyBindings, desk: Desk) -> None:
    @keys.add("<sigint>")
    @keys.add("c-c")
    def _(event: KeyPressEvent) -> None:
        if event.app.layout.has_focus(desk.command):
            desk.close_command()
        elif event.app.layout.has_focus(desk.page):
            desk.close_page()
        else:
            desk.interrupt()

    @keys.add("c-z")
    def _(event: KeyPressEvent) -> None:
        event.app.suspend_to_background()


def _bind_code(keys: KeyBindings, desk: Desk) -> None:
    code = has_focus(desk.code)
    ghost = code & Condition(lambda: bool(desk.ghost))
    proposed = code & Condition(lambda: bool(desk.ghost or desk.doing))
    empty = code & Condition(lambda: not desk.code.text)
    blank_line = code & Condition(lambda: not desk.code.document.current_line.strip())
    indentation = code & Condition(lambda: _in_indentation(desk))

    @keys.add("tab", filter=code)
    def _(_: KeyPressEvent) -> None:
        desk.tab()

    @keys.add("right", filter=ghost)
    @keys.add("c-f", filter=ghost)
    def _(_: KeyPressEvent) -> None:
        desk.accept()

    @keys.add("escape", filter=proposed)
    def _(_: KeyPressEvent) -> None:
        desk.dismiss()

    @keys.add("enter", filter=code)
    def _(_: KeyPressEvent) -> None:
        desk.newline()

    @keys.add("backspace", filter=indentation)
    def _(_: KeyPressEvent) -> None:
        desk.backspace_indentation()

    @keys.add("s-tab", filter=code)
    def _(_: KeyPressEvent) -> None:
        desk.outdent()

    @keys.add("up", filter=code)
    @keys.add("c-p", filter=code)
    def _(event: KeyPressEvent) -> None:
        desk.up(event.arg)

    @keys.add("down", filter=code)
    @keys.add("c-n", filter=code)
    def _(event: KeyPressEvent) -> None:
        desk.down(event.arg)

    @keys.add("/", filter=blank_line)
    def _(_: KeyPressEvent) -> None:
        desk.open_command(typed=True)

    @keys.add("c-o", filter=code)
    def _(_: KeyPressEvent) -> None:
        desk.open_command(typed=False)

    @keys.add("c-d", filter=empty)
    def _(_: KeyPressEvent) -> None:
        desk.leave()

    keys.add("escape", "<", filter=code)(get_by_name("beginning-of-buffer"))
    keys.add("escape", ">", filter=code)(get_by_name("end-of-buffer"))


def _bind_command(keys: KeyBindings, desk: Desk) -> None:
    command = has_focus(desk.command)
    alone = command & Condition(lambda: len(desk.command.text) <= 1)

    @keys.add("escape", filter=command)
    @keys.add("backspace", filter=alone)
    @keys.add("c-d", filter=alone)
    def _(_: KeyPressEvent) -> None:
        desk.close_command()

    @keys.add("tab", filter=command)
    def _(_: KeyPressEvent) -> None:
        if desk.command.complete_state:
            desk.command.complete_next()
        else:
            desk.command.start_completion(insert_common_part=True)

    @keys.add(Keys.Any, filter=alone)
    def _(event: KeyPressEvent) -> None:
        # The first slash is there already, whatever opened the line.
        if not desk.slash_was_code(event.data) and event.data != desk.command.text:
            get_by_name("self-insert").call(event)


def _bind_page(keys: KeyBindings, desk: Desk) -> None:
    page = has_focus(desk.page)

    @keys.add("enter", filter=page)
    @keys.add("tab", filter=page)
    @keys.add("escape", filter=page)
    @keys.add("c-d", filter=page)
    @keys.add(Keys.Any, filter=page)
    def _(_: KeyPressEvent) -> None:
        desk.close_page()


def _in_indentation(desk: Desk) -> bool:
    before = desk.code.document.current_line_before_cursor
    return bool(before) and not before.strip() and desk.code.selection_state is None
