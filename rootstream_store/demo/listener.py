"""Somebody who listens to what is told of streams, as a web page would."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Final, Self

from rootstream_store import live
from rootstream_store.store import Store

__all__ = ["Listener"]

_PATIENCE: Final = 10.0
"""Seconds for which the last message is waited for."""


class _Over(live.Message, frozen=True, kw_only=True, tag="demo.over"):
    """The evening is over: what was told of it came before this."""

    run_id: str


class Listener:
    """Receives the starts and stops of all streams on a thread of its own, while it is entered."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.heard: dict[int, list[tuple[str, int | None]]] = {}
        """By stream: what was heard of it and of which session, in this order."""
        self.gaps: list[str] = []
        """Why something may be missing."""
        self._store = store
        self._run_id = run_id
        self._messages = live.subscribe(store, ["stream.*", f"demo.{run_id}.*"], types=[_Over])
        self._thread = threading.Thread(target=self._listen, name="rootstream-demo-listener", daemon=True)

    def catch_up(self) -> None:
        """Wait until all that was told until now is heard."""
        live.publish(self._store, _Over(run_id=self._run_id))
        self._thread.join(_PATIENCE)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._messages.close()
        self._thread.join()

    def _listen(self) -> None:
        for received in self._messages:
            match received:
                case live.Gap(reason=reason):
                    self.gaps.append(reason)
                case live.Received(message=live.StreamStarted(stream_id=stream, session_id=session)):
                    self.heard.setdefault(stream, []).append(("started", session))
                case live.Received(message=live.StreamStopped(stream_id=stream, session_id=session)):
                    self.heard.setdefault(stream, []).append(("stopped", session))
                case live.Received(message=_Over()):
                    return
