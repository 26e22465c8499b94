"""The market's domain: calendar, splits, daily bars, volume by time of day, companies, symbols, flat files. Pure."""
