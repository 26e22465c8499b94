"""Which session the market is in, and the trading calendar; see market_session.proto."""
