"""What is on its way through a producer, and what became of it: bytes held, attempts, outcomes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from .buffer import Parcel, UserRecord, cost
from .kinesis import Placed
from .outcomes import Attempt, Counters, HandedBackError, Outcome

ATTEMPTS_KEPT_MAX = 20  # of one user record, the newest


class Accounts:
    """Accounts for user records from the put to the outcome.

    held: memory of those on their way, in bytes. unclaimed: those that were handed back, had no
    callback, and were not raised yet.
    """

    def __init__(self, stream: str, counters: Counters, now: Callable[[], float]) -> None:
        """Hold nothing; `stream` is for messages."""
        self.held = 0
        self.unclaimed: list[Outcome] = []
        self._stream, self._counters, self._now = stream, counters, now
        self._attempts: dict[int, tuple[Attempt, ...]] = {}  # by number, of those that failed
        self._told: deque[Outcome] = deque()  # for callbacks
        self._telling = False

    def note(self, parcel: Parcel, code: str, message: str) -> None:
        """Note an attempt that put the records nowhere, or where nobody reads them."""
        attempt = Attempt(self._now(), code, message)
        for user in parcel.users:
            before = self._attempts.get(user.number, ())
            self._attempts[user.number] = (*before, attempt)[-ATTEMPTS_KEPT_MAX:]

    def placed(self, parcel: Parcel, placed: Placed) -> None:
        """Account for a parcel that lies in the stream."""
        self._counters.user_records_placed += parcel.count
        self._counters.user_bytes_placed += parcel.cost
        self.held -= parcel.cost
        if not parcel.told:
            if self._attempts:
                for user in parcel.users:
                    self._attempts.pop(user.number, None)
            return
        for place, user in enumerate(parcel.users):
            attempts = self._attempts.pop(user.number, ()) if self._attempts else ()
            if user.callback is not None:
                self._told.append(Outcome(user, placed, place, attempts))

    def hand_back(self, users: Iterable[UserRecord]) -> None:
        """Account for records that are given up."""
        for user in users:
            self._counters.expired += 1
            self.held -= cost(user.partition_key, user.data)
            outcome = Outcome(user, None, 0, self._attempts.pop(user.number, ()))
            (self.unclaimed if user.callback is None else self._told).append(outcome)

    def tell(self) -> None:
        """Call back, also where a callback puts records and so comes here again: in one loop.

        An exception of a callback leaves; the outcomes after it are told the next time.
        """
        if not self._telling:
            self._telling = True
            try:
                while self._told:
                    outcome = self._told.popleft()
                    outcome.user.callback(outcome)
            finally:
                self._telling = False

    def claim(self) -> None:
        """Raise HandedBackError with what is unclaimed, where anything is."""
        if self.unclaimed:
            outcomes, self.unclaimed = self.unclaimed, []
            outcomes.sort(key=lambda outcome: outcome.user.number)
            codes = ", ".join(f"{code} {many}" for code, many in self._counters.errors.items())
            what = f"{len(outcomes)} records could not be put in time; errors: {codes or 'none'}"
            raise HandedBackError(f"stream {self._stream}: {what}", outcomes)
