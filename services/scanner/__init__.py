"""The scanner: one copy of the market, ranked lists of it, and streams of their changes."""
