"""What the desk does, with a model that tells when it is asked."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bigcode_cli.cli.repl_desk import HINT
from bigcode_cli.engine.session import Session
from bigcode_cli.records import Chunk, GenerateRequest, InfillRequest
from tests.cli.desks import Seat, seat

BEFORE, AFTER = "def add(first, second):\n    return ", " + second\n"
"""The random model fills this hole with a line, and with no less than a few characters."""


@pytest.fixture
def at(session: Session, model_folder: Path) -> Iterator[Seat]:
    with seat(session, model_folder) as one:
        yield one


def answer(session: Session, request: GenerateRequest | InfillRequest) -> str:
    """What the session says by itself."""
    events = (
        list(session.infill([request]))
        if isinstance(request, InfillRequest)
        else list(session.generate([request]))
    )
    return "".join(event.text for event in events if isinstance(event, Chunk))


class TestGhost:
    def test_middle_is_proposed_where_text_follows(self, at: Seat, session: Session) -> None:
        question = at.desk.options.question(BEFORE, AFTER)
        assert isinstance(question.request, InfillRequest)
        at.write(BEFORE, AFTER)
        at.desk.tab()
        assert (at.desk.doing, at.desk.ghost) == ("completing", "")
        at.settle()
        assert at.desk.ghost == question.ghost(answer(session, question.request)) != ""
        assert at.desk.code.text == BEFORE + AFTER

    def test_what_comes_next_is_proposed_at_the_end(self, at: Seat, session: Session) -> None:
        question = at.desk.options.question(BEFORE, "\n \n")
        assert isinstance(question.request, GenerateRequest)
        at.write(BEFORE, "\n \n")
        at.desk.tab()
        at.settle()
        assert at.desk.ghost == question.ghost(answer(session, question.request)) != ""

    def test_ghost_grows_as_the_model_tells(self, at: Seat) -> None:
        at.write("value = ")
        at.desk.tab()
        seen = [""]
        while at.desk.doing:
            at.hear()
            assert at.desk.ghost.startswith(seen[-1])
            seen.append(at.desk.ghost)
        assert len(set(seen)) > 3

    def test_second_tab_while_the_model_runs_changes_nothing(self, at: Seat) -> None:
        at.write("value = ")
        at.desk.tab()
        task = at.desk._task
        at.hear()
        at.desk.tab()
        assert at.desk._task is task
        assert at.desk.code.text == "value = "
        at.settle()

    def test_accepted_ghost_is_code_and_undone_at_once(self, at: Seat) -> None:
        at.write(BEFORE, AFTER)
        at.desk.tab()
        at.settle()
        ghost = at.desk.ghost
        at.desk.code.save_to_undo_stack()  # as a key does
        at.desk.tab()
        assert at.desk.code.document.text_before_cursor == BEFORE + ghost
        assert at.desk.code.document.text_after_cursor == AFTER
        assert at.desk.ghost == ""
        at.desk.code.undo()
        assert at.desk.code.text == BEFORE + AFTER

    def test_ghost_taken_while_it_grows_is_taken_as_far_as_it_came(self, at: Seat) -> None:
        at.write("value = ")
        at.desk.tab()
        while not at.desk.ghost:
            at.hear()
        ghost = at.desk.ghost
        at.desk.accept()
        assert (at.desk.doing, at.desk.code.text) == ("", "value = " + ghost)
        at.desk.model.close()
        while not at.told.empty():
            at.hear()
        assert at.desk.ghost == ""

    @pytest.mark.parametrize("change", ["type", "move", "dismiss"])
    def test_whatever_changes_the_place_dismisses_the_ghost(self, at: Seat, change: str) -> None:
        at.write(BEFORE, AFTER)
        at.desk.tab()
        while not at.desk.ghost:
            at.hear()
        if change == "type":
            at.desk.code.insert_text("x")
        elif change == "move":
            at.desk.code.cursor_left()
        else:
            at.desk.dismiss()
        assert (at.desk.ghost, at.desk.doing) == ("", "")
        at.desk.model.close()
        while not at.told.empty():
            at.hear()
        assert (at.desk.ghost, at.desk.message) == ("", None)

    def test_next_question_waits_for_the_dismissed_one_and_is_answered(
        self, at: Seat, session: Session
    ) -> None:
        at.write("value = ")
        for _ in range(3):
            at.desk.tab()
            at.desk.dismiss()
        at.desk.tab()
        at.settle()
        question = at.desk.options.question("value = ", "")
        assert at.desk.ghost == question.ghost(answer(session, question.request))

    def test_only_what_is_new_is_run_through_the_model(self, at: Seat) -> None:
        for before in (BEFORE, BEFORE + "first"):
            at.write(before, AFTER * 20)
            at.desk.tab()
            at.settle()
        last, stats = at.desk.model.stats.last, at.desk.model.stats
        assert last is not None
        assert stats.completions == 2
        assert stats.reused == last.reused_tokens > stats.prompt // 2 - 8

    def test_hint_stands_where_no_code_is(self, at: Seat) -> None:
        assert at.desk.shown_ghost == HINT
        at.write("x")
        assert at.desk.shown_ghost == ""

    def test_model_that_leaves_the_block_adds_nothing_to_it(self, at: Seat) -> None:
        before = "if x:\n" + 40 * " "
        at.write(before)
        at.desk.tab()
        at.settle()
        assert at.desk.message is not None
        assert at.desk.message.text == "the model ends the block here"
        assert (at.desk.ghost, at.desk.code.text) == ("", before)

    def test_nothing_is_asked_about_nothing(self, at: Seat) -> None:
        at.desk.code.insert_text("  \n ")
        at.desk.tab()
        assert at.desk.doing == ""
        assert at.desk.message is not None

    def test_tab_before_a_lines_first_character_indents(self, at: Seat) -> None:
        at.write("if x:\n  ", "y")
        at.desk.tab()
        assert at.desk.code.document.text_before_cursor == "if x:\n    "
        assert at.desk.doing == ""


class TestInterrupt:
    def test_running_model_stops_and_its_ghost_stays(self, at: Seat) -> None:
        at.desk.options = at.desk.options.__class__(
            sampling=at.desk.options.sampling, max_new_tokens=4000
        )
        at.write("value = ")
        at.desk.tab()
        while not at.desk.ghost:
            at.hear()
        at.desk.interrupt()
        assert at.desk.doing == "stopping"
        at.settle()
        assert at.desk.message is not None
        assert at.desk.message.text == "stopped"
        assert at.desk.ghost
        assert at.desk.model.stats.interrupted == 1
        at.desk.interrupt()
        assert at.desk.ghost == ""

    def test_idle_program_stays_and_tells_how_to_leave(self, at: Seat) -> None:
        at.desk.interrupt()
        assert at.desk.message is not None
        assert "/quit" in at.desk.message.text


class TestTrouble:
    def test_error_of_the_model_is_one_line(self, at: Seat) -> None:
        at.write("x\udc80 = ")
        at.desk.tab()
        at.settle()
        message = at.desk.message
        assert message is not None
        assert message.error
        assert "\n" not in message.text
        at.write("value = ")
        at.desk.tab()
        at.settle()
        assert at.desk.ghost

    def test_bug_is_one_line_and_no_traceback(self, at: Seat) -> None:
        at.desk.fail(ZeroDivisionError("oops\n\x1b[2J"))
        assert at.desk.message is not None
        assert at.desk.message.text == "internal error: ZeroDivisionError: oops \\x1b[2J"
        assert at.desk.page.text == ""

    def test_debug_shows_the_traceback(self, session: Session, model_folder: Path) -> None:
        with seat(session, model_folder, debug=True) as at:
            at.desk.fail(ZeroDivisionError("oops"))
            assert at.desk.page.text.endswith("ZeroDivisionError: oops")
