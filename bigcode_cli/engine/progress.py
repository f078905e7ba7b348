"""How far work on texts is, in their bytes."""

from bigcode_cli.records import Reporter


class ByteProgress:
    """Tells a reporter how many bytes of text are done.

    Args:
        label: of the work.
        total: bytes of all texts; ``None`` where it is not known.
    """

    def __init__(self, report: Reporter, label: str, total: int | None) -> None:
        self._report, self._label, self._total = report, label, total
        self._done = 0

    def count(self, n_bytes: int) -> None:
        """So many more are done."""
        self._done += n_bytes
        # The size was that of the files' bytes, which another encoding spells otherwise.
        if self._total is None or self._done < self._total:
            self._report.progress(self._label, self._done, self._total, "B")

    def end(self) -> None:
        """All is done."""
        self._report.progress(self._label, self._done, self._done, "B")
