"""Loads the market's history: the universe, companies, daily bars, and volume by time of day."""
