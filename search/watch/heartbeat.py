"""`Heartbeat`: the thread of the driver that writes `pulse.json` every few seconds."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from search.run_dir.pulse_file import PULSE_FILE, PULSE_SECONDS, Pulse, write_pulse


class Heartbeat:
    """Writes a pulse every few seconds while its block lasts, and a last one at the end.

    A thread, so that no decision waits for a file system; a pulse that cannot be written is reported once. `take`
    returns the current pulse; its argument says how the search ended, and is empty until then.
    """

    def __init__(
        self,
        run_dir: str,
        take: Callable[[str], Pulse],
        *,
        note: Callable[[str], None],
        seconds: float = PULSE_SECONDS,
        write: Callable[[Pulse, str], None] = write_pulse,
    ) -> None:
        self._run_dir = run_dir
        self._take = take
        self._note = note
        self._seconds = seconds
        self._write = write
        self._reported = False
        self._over = threading.Event()
        self._one_at_a_time = threading.Lock()
        self._listener: Callable[[Pulse], None] | None = None
        self._thread = threading.Thread(target=self._beat_on, name="pulse", daemon=True)

    def __enter__(self) -> Self:
        self._beat("")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._beat(_how_it_ended(error))

    @contextmanager
    def heard_by(self, listener: Callable[[Pulse], None]) -> Iterator[None]:
        """Also pass every pulse to a listener while the block lasts, and in any case one at its end."""
        with self._one_at_a_time:
            self._listener = listener
        try:
            yield
        finally:
            self._beat("")
            with self._one_at_a_time:
                self._listener = None

    def _beat_on(self) -> None:
        while not self._over.wait(self._seconds):
            self._beat("")

    def _beat(self, ended: str) -> None:
        with self._one_at_a_time:
            pulse = self._take(ended)
            if self._listener is not None:
                self._listener(pulse)
            try:
                self._write(pulse, self._run_dir)
            except OSError as error:
                if not self._reported:
                    self._note(f"{PULSE_FILE} cannot be written, so `blendfold status` shows an old state: {error}")
                self._reported = True


def _how_it_ended(error: BaseException | None) -> str:
    if error is None:
        return "done"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    text = str(error)
    return f"{type(error).__name__}: {text.splitlines()[0] if text else ''}"
