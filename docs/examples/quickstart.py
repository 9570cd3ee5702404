"""From sign-up to the end of a broadcast. Runs as it is: it starts its own PostgreSQL and Valkey."""

from rootstream_store import Store, events, streams, users

# On your own servers: Store.open("postgresql://app@db/rootstream", "redis://cache/0", pool_size=20)
with Store.embedded(pool_size=20) as store:
    ann = users.create(store, username="ann", email="ann@example.org", password="correct horse battery")
    ann = users.get(store, ann.id)

    stream = streams.create(store, ann.id, name="Chess at midnight")
    print("the encoder's key:", stream.stream_key)  # shown as stars; .reveal() gives the text

    # Two changes that must not part: both are committed, or neither.
    with store.transaction() as tx:
        streams.start(tx, stream.id, resolution="1920x1080", fps=60, codec="h264", bitrate_kbps=6000)
        events.append(
            tx,
            "stream",
            str(stream.id),
            "StreamStarted",
            {"quality": "1080p60", "codec": "h264"},
            user_id=ann.id,
        )

    live = streams.update_stats(store, stream.id, viewer_count=150)
    session = streams.stop(store, stream.id)
    print(f"{session.peak_viewers} viewers at most, {session.duration_seconds} s on air")
    for event in events.read(store, "stream", str(stream.id)):
        print(event.version, event.event_type, event.event_data, "by user", event.user_id)
