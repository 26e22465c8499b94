"""A synthetic US market that speaks the vendor's WebSocket and REST protocols.

One tick's way: `plan` says what a symbol does on a day, `market_day` what has traded by
any moment of it, `ticks` the trades of one second, `tape` the messages in the order in
which they are sent, `feed` who gets them. `history` and `rest` answer from the same plan.
"""
