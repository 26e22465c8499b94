"""A synthetic US market that speaks the vendor's WebSocket and REST protocols.

One tick's way: `plan` makes the day of a symbol, `market_day` the trades up to any minute of
it, `ticks` those of one second, `tape` the messages in the order in which they are sent, and
`feed` sends them to subscribers. `history` and `rest` answer from the same plan.
"""
