"""The rows that queries return. Frozen: a record tells of the moment it was read.

All times are timezone-aware. Sizes are in bytes, bitrates in kbit/s (1000 bit), durations in whole seconds.
None means "not known" or "not yet" as each field says.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, dataclass_transform
from uuid import UUID

import msgspec

from rootstream_store.secret import Secret

__all__ = [
    "AggregateHead",
    "Appended",
    "AppendedTo",
    "ArchiveReport",
    "BillingAccount",
    "Checkpoint",
    "CreatedSession",
    "CreatedStream",
    "ErasureReport",
    "Event",
    "Fault",
    "Horizon",
    "InFlightAppend",
    "MonthlyUsage",
    "MovedHead",
    "ParkedEvent",
    "QuotaUsage",
    "RankedStream",
    "Recording",
    "RejectedEvent",
    "RepeatedEvent",
    "Seal",
    "Session",
    "Snapshot",
    "Stream",
    "StreamInfo",
    "StreamSession",
    "SubscriptionLag",
    "UsageTotal",
    "User",
    "Verification",
    "ViewerCount",
    "ViewerFigures",
]


# Type checkers do not know by themselves that subclasses of a frozen Struct are frozen.
@dataclass_transform(frozen_default=True, kw_only_default=True)
class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all records. Each says kw_only itself: msgspec applies that to a class's own fields only."""


class User(Record, kw_only=True):
    """An account. The password hash never leaves the library."""

    id: int
    username: str
    """Unique whatever its case."""
    email: str
    """Unique whatever its case."""
    display_name: str | None
    """None: show the username."""
    avatar_url: str | None
    is_verified: bool
    """The e-mail address was confirmed."""
    is_active: bool
    """False: may not log in, and every login session is refused."""
    created_at: datetime
    updated_at: datetime
    last_login_at: datetime | None
    """None: never logged in."""


class Session(Record, kw_only=True):
    """A login session. Its token is known to the client only; `token_hash` (SHA-256) names it here."""

    token_hash: bytes
    user_id: int
    device_id: str | None
    user_agent: str | None
    ip_address: str | None
    """IPv4 or IPv6, in PostgreSQL's short form. None: not given."""
    created_at: datetime
    expires_at: datetime
    last_activity: datetime
    is_active: bool
    """False: revoked."""


class CreatedSession(Session, kw_only=True):
    """A login session just made, with the token that its client presents. It is shown this once."""

    token: Secret


class StreamInfo(Record, kw_only=True):
    """A channel of a user without the figures of its broadcast, which each report of an encoder changes."""

    id: int
    user_id: int
    name: str
    description: str | None
    stream_url: str | None
    thumbnail_url: str | None
    is_live: bool
    is_public: bool
    created_at: datetime
    started_at: datetime | None
    """Start of the broadcast on air or, while off air, of the last one. None: never on air."""
    ended_at: datetime | None
    """End of the last broadcast. None: never ended one, or on air now."""


class Stream(StreamInfo, kw_only=True):
    """A channel of a user. The stream key is not part of it: see `streams.get_key`."""

    viewer_count: int
    """Viewers at the last stats update; 0 while off air."""
    bitrate_kbps: int | None
    resolution: str | None
    """Width x height in pixels: "1920x1080"."""
    fps: float | None
    """Frames per second."""
    codec: str | None
    updated_at: datetime


class CreatedStream(Stream, kw_only=True):
    """A stream just made, with the key that its encoder presents."""

    stream_key: Secret


class StreamSession(Record, kw_only=True):
    """One time on air."""

    stream_id: int
    id: int
    session_start: datetime
    session_end: datetime | None
    """None: on air."""
    total_viewers: int
    """Viewers who ever joined."""
    peak_viewers: int
    """Most viewers at one time; never above total_viewers."""
    unique_viewers: int
    """Different viewers, estimated within about 1 %; never above total_viewers. 0: viewers were told as
    numbers only."""
    total_bytes_sent: int
    duration_seconds: int | None
    """None: on air."""
    is_recorded: bool
    recording_path: str | None


class ViewerFigures(Record, kw_only=True):
    """Who watches a stream. While it is off air all of them are 0."""

    stream_id: int
    session_id: int | None
    """The time on air that they are of. None: off air."""
    current: int
    peak: int
    """Most at one time in this session."""
    unique: int
    """Different viewers of this session, estimated within about 1 %; of those told one by one only."""
    as_of: datetime | None
    """From Redis: now. From PostgreSQL: when a flush last changed them; None: none did in this session."""
    is_from_redis: bool
    """True: counted just now. False: as PostgreSQL has them, from the last flush or report."""


class ViewerCount(Record, kw_only=True):
    """What came of one viewer's join, heartbeat or leave, or of one report."""

    current: int
    """How many watch the stream, with this change; where it is not counted, as of the last flush."""
    is_change: bool
    """True: the viewer was not there before, or was and has left; a report changed the number."""
    is_counted: bool
    """False: Redis could not be asked, or the stream is just being stopped. Tell it again: twice is once."""


class RankedStream(Record, kw_only=True):
    """A stream's place among those on air."""

    stream_id: int
    viewers: int
    """As of the last flush."""


class Recording(Record, kw_only=True):
    """A file recorded from a stream."""

    stream_id: int
    id: int
    session_id: int | None
    """The time on air it came from. None: unknown, or deleted since."""
    file_path: str
    file_size_bytes: int
    duration_seconds: int
    codec: str | None
    resolution: str | None
    fps: float | None
    bitrate_kbps: int | None
    is_processed: bool
    """Transcoding and thumbnails are done."""
    is_available: bool
    """False: hidden, or its file is gone."""
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    """From then on the file may be deleted. None: kept."""


class UsageTotal(Record, kw_only=True):
    """What was consumed in a span of time."""

    events: int
    bytes_transferred: int
    duration_seconds: int


class MonthlyUsage(Record, kw_only=True):
    """What a user consumed in one calendar month (UTC)."""

    month: date
    """Its first day."""
    events: int
    bytes_transferred: int
    duration_seconds: int


class BillingAccount(Record, kw_only=True):
    """How a user pays and what the tier allows."""

    user_id: int
    payment_method: str | None
    """A label of the payment provider, never a card number. None: none given."""
    subscription_tier: str
    """free, pro or enterprise."""
    monthly_limit_gb: int | None
    """In units of 10^9 bytes a calendar month (UTC). None: no limit."""
    created_at: datetime
    updated_at: datetime


class QuotaUsage(Record, kw_only=True):
    """A user's transfer in one calendar month (UTC) against the limit."""

    user_id: int
    subscription_tier: str
    monthly_limit_gb: int | None
    """None: no limit."""
    bytes_transferred: int
    is_over_limit: bool


class AggregateHead(Record, kw_only=True):
    """Where an aggregate's events end."""

    aggregate_id: str
    aggregate_type: str
    version: int
    """Of its last event."""
    is_closed: bool


class MovedHead(Record, kw_only=True):
    """The head row of an aggregate that events are about to be written to."""

    aggregate_id: str
    aggregate_type: str
    version: int
    """Of the last of these events."""
    moved_at: datetime
    """By the server's clock, after the row was locked."""


class Appended(Record, kw_only=True):
    """Where an event just appended stands in the log."""

    version: int
    """From 1, without gaps within its aggregate."""
    position: int
    """Its place in the whole log; see Event."""
    event_id: UUID
    timestamp: datetime


class AppendedTo(Appended, kw_only=True):
    """Where an event stands that was appended together with those of other aggregates."""

    aggregate_id: str
    aggregate_type: str


class RepeatedEvent(AppendedTo, kw_only=True):
    """What stands in the log where an event would stand, had its append been made before."""

    number: int
    """Of the event in the append, from 1."""
    is_same: bool
    """It is that event."""


class Event(Record, kw_only=True):
    """One event of the log, never changed."""

    position: int
    """Its place in the whole log. Grows, with gaps. A cursor up to the horizon: see `events.read_all`."""
    aggregate_id: str
    aggregate_type: str
    version: int
    """From 1, without gaps within its aggregate."""
    event_type: str
    event_id: UUID
    event_data: Any
    """Decoded JSON."""
    metadata: Any
    """Decoded JSON. None: none given."""
    user_id: int | None
    """Who caused it. None: the system. Kept when the user is deleted."""
    timestamp: datetime


class Horizon(Record, kw_only=True):
    """How far the log can be read without missing an event."""

    position: int
    """No event at or below it will be committed any more. 0: none yet."""
    last_position: int
    """The last one handed out; those above `position` may be committed, rolled back or on their way."""
    is_primary: bool
    """False: a standby, where the locks of writers are not known and `position` means nothing."""
    is_fresh: bool
    """False: in a transaction whose snapshot may be older, and shows less than `position` says."""


class ArchiveReport(Record, kw_only=True):
    """What archiving moved."""

    aggregates: int
    """Whose events were moved, each whole."""
    events: int
    segments: int
    """Rows that hold the events now. 0: only counted."""
    bytes_before: int
    """Of the rows in event_log, without indexes. 0: only counted."""
    bytes_after: int
    """Of the segments, compressed, without indexes. 0: only counted."""


class ErasureReport(Record, kw_only=True):
    """What an erasure did."""

    operation: int | None
    """Its number in event_erasures, from 1. None: nothing was left to erase, and nothing was logged."""
    events: int
    """Erased events that are live."""
    archived_events: int
    aggregates: int
    """Whose events these are."""
    snapshots: int
    """Deleted snapshots, those of aggregates that were erased before among them."""


class Seal(Record, kw_only=True):
    """A digest over a range of the log and over the seal before it."""

    number: int
    """From 1, without gaps."""
    first_position: int
    last_position: int
    """Included. The next seal begins right after it."""
    event_count: int
    """Fewer than positions where an append was rolled back."""
    hash: bytes
    """32 bytes, sha-256. In hexadecimal it is an anchor for `events.verify`."""
    sealed_at: datetime


class Fault(Record, kw_only=True):
    """Where the log is not what was sealed."""

    kind: str
    """"altered", "missing", "inserted", "reordered": an event; "seal_altered", "seal_missing": a seal;
    "erasure_false": an erasure and what the log tells of it do not agree; "unanchored": no seal is the
    anchor."""
    detail: str
    """The same in a sentence."""
    seal: int | None = None
    """Its number. None: not about a seal or what one covers."""
    position: int | None = None
    """Of the event. None: not about one."""
    aggregate_type: str | None = None
    """None: not about an event, or nothing is left of it. So for the next two."""
    aggregate_id: str | None = None
    version: int | None = None
    operation: int | None = None
    """Of the erasure. None: not about one."""


class Verification(Record, kw_only=True):
    """What `events.verify` found."""

    fault: Fault | None
    """The first one. None: all is as it was sealed."""
    seals: int
    """Those that were found whole, before the fault if there is one. So for all that follow."""
    sealed_events: int
    unsealed_events: int
    """Events after the last of these seals: of them nothing can be said."""
    last_position: int
    """Up to where these seals go."""
    head: str | None
    """Hash of the last of these seals, the anchor to keep elsewhere. None: there is no seal."""


class InFlightAppend(Record, kw_only=True):
    """A transaction that has appended and not ended: no reader goes beyond its watermark."""

    watermark: int
    """All events that it appended lie above this position."""
    pid: int | None
    """Of its server process (pg_stat_activity). None: a prepared transaction (pg_prepared_xacts)."""
    role: str | None
    application_name: str | None
    client_address: str | None
    """None: a local socket, or another role's, which only a superuser or pg_read_all_stats sees."""
    state: str | None
    """"active", "idle in transaction", … None: as for client_address."""
    wait_event: str | None
    transaction_start: datetime | None


class Snapshot(Record, kw_only=True):
    """The folded state of an aggregate as of one version."""

    aggregate_id: str
    aggregate_type: str
    version: int
    position: int
    """Of the event it includes last."""
    schema_version: int
    """Of the shape of `state`; a changed fold reads only its own."""
    state: Any
    created_at: datetime


class Checkpoint(Record, kw_only=True):
    """How far one partition of a subscription has come, and who reads it."""

    name: str
    partition: int
    """From 0."""
    partitions: int
    """How many the subscription has."""
    position: int
    """All events up to here are handled or parked."""
    owner: UUID | None
    """The member that reads it, while its lease lasts. None: free."""
    lease_expires_at: datetime | None
    """By the server's clock. None: free."""
    is_leased: bool
    """The lease had not expired when it was looked at."""
    failed_position: int
    """Of the event that is being tried again. 0: none."""
    attempts: int
    """Failed attempts at it so far."""
    last_error: str | None
    """Why the last one failed. None: none since the checkpoint moved."""
    updated_at: datetime


class SubscriptionLag(Checkpoint, kw_only=True):
    """How far one partition of a subscription is behind."""

    horizon: int
    """Up to here the log is complete, so up to here it can be read."""
    last_position: int
    """The last position handed out."""
    positions_behind: int
    """Positions from the checkpoint to the horizon: at least as many as events."""
    seconds_behind: float | None
    """Age of the oldest event of the partition after the checkpoint. None: there is none."""
    parked: int
    """Events parked."""


class ParkedEvent(Record, kw_only=True):
    """An event that a subscription gave up and went past."""

    name: str
    """Of the subscription."""
    position: int
    partition: int
    aggregate_type: str
    aggregate_id: str
    event_type: str
    attempts: int
    """Made before it was parked, and by `retry_parked` since."""
    error_class: str
    error_text: str
    """In one line, without what the event holds."""
    parked_at: datetime


class RejectedEvent(Record, kw_only=True):
    """An event that native code has queued and that the event log cannot take."""

    id: int
    user_id: int | None
    rejected_at: datetime
    writer: UUID
    """Of the store that the native code had opened."""
    aggregate_type: str
    """What was not UTF-8 is written as \\xNN; and so in the two names below."""
    aggregate_id: str
    event_type: str
    event_data: bytes
    """As it was given: it may be neither JSON nor UTF-8."""
    metadata: bytes | None
    sqlstate: str | None
    """Of the error with which PostgreSQL refused it. None: it was refused before."""
    error_text: str
    """What is wrong with it, in one line, without what the event holds."""
