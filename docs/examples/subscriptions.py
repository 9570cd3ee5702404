"""A projection and a subscription on servers of their own: what sells, and a mail for each large order."""

from pathlib import Path
from tempfile import TemporaryDirectory

from rootstream_store import Store, Transaction, events, query
from rootstream_store.records import Event

with TemporaryDirectory() as folder, Store.embedded() as store:
    sql = Path(folder)  # in your project: a folder of .sql files, one statement each
    (sql / "create_sales.sql").write_text(
        "-- What each article sold.\nCREATE TABLE sales (article text PRIMARY KEY, amount bigint NOT NULL)\n"
    )
    (sql / "add_sale.sql").write_text(
        "-- Adds to what an article sold.\n"
        "INSERT INTO sales AS s (article, amount) VALUES (%(article)s::text, %(amount)s::bigint)\n"
        "ON CONFLICT (article) DO UPDATE SET amount = s.amount + excluded.amount\n"
    )
    (sql / "get_amount.sql").write_text(
        "-- What an article sold.\n"
        "SELECT amount FROM projection_sales.sales WHERE article = %(article)s::text\n"
    )
    add_sale = query("add_sale", root=sql)
    get_amount = query("get_amount", int, root=sql)

    def count(tx: Transaction, event: Event) -> None:
        tx.run(add_sale, article=event.event_data["article"], amount=event.event_data["amount"])

    sales = events.Projection("sales", count, query("create_sales", root=sql), event_types=["Ordered"])

    def send_mail(tx: Transaction, event: Event) -> None:
        if event.event_data["amount"] > 10:
            print(f"mail: order {event.aggregate_id} is large")

    for number, amount in enumerate((3, 20, 4), 1):
        events.append(store, "order", number, "Ordered", {"article": "chess set", "amount": amount})

    # In a service: `with sales.subscription(store): …`, on a thread of its own, woken by each append.
    sales.subscription(store).catch_up()
    events.Subscription(store, "mails", send_mail, event_types=["Ordered"], partitions=4).catch_up()
    print("sold:", store.one(get_amount, article="chess set"))

    events.rebuild(store, sales)  # from the first event, while the old tables serve
    print("rebuilt:", store.one(get_amount, article="chess set"))
    for lag in events.list_lag(store):
        print(lag.name, lag.partition, "is", lag.positions_behind, "behind")
