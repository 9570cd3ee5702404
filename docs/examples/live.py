"""Messages and live state on servers of their own: a chat room that shows what the stream tells."""

from rootstream_store import Store, VersionConflict, live, streams, users


class GoalReached(live.Message, frozen=True, kw_only=True, tag="goal.reached"):
    """A message of your own: its tag is the type, its first field what it is about."""

    stream_id: int
    amount: int


with Store.embedded() as store:
    ann = users.create(store, username="ann", email="ann@example.org", password="correct horse battery")
    stream = streams.create(store, ann.id, name="Chess at midnight")

    with live.subscribe(store, ["stream.*", "goal.*"], types=[GoalReached]) as messages:
        streams.start(store, stream.id)
        with store.transaction() as tx:  # sent when it commits, never when it is rolled back
            live.publish(tx, GoalReached(stream_id=stream.id, amount=100))
        last_id = ""
        for received in messages:
            match received:
                case live.Gap():
                    print("read the truth again:", received.reason)
                case live.Received(message=live.StreamStarted(session_id=number)):
                    print(received.topic, "session", number)
                case live.Received(message=GoalReached(amount=amount)):
                    print(received.topic, amount)
                    last_id = received.id
                    messages.close()

    streams.stop(store, stream.id)  # nobody listens now
    with live.subscribe(store, since=last_id) as messages:  # on the next connection, with the last id seen
        missed = messages.get(timeout=5)
        assert isinstance(missed, live.Received)
        print(missed.topic, "was not missed")

    # What every viewer sees at once, and what changes of it.
    live.update_state(store, stream.id, {"scene": "intro", "poll": {"e4": 0, "d4": 0}})
    with live.follow_state(store, stream.id) as follower:
        state = follower.get()
        assert isinstance(state, live.StateSnapshot)
        print(state.version, state.values)
        live.push_state(store, stream.id, {"poll": {"e4": 1, "d4": 0}}, remove=["scene"])
        change = follower.get()
        assert isinstance(change, live.StateChanged)
        print(change.version, state.after(change).values)
        try:
            live.update_state(store, stream.id, {"scene": "end"}, expected_version=state)
        except VersionConflict as conflict:
            print("another change came first, at version", conflict.actual)
