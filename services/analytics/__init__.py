"""analytics: relative volume, the day's range and 1-minute bars, from a copy of the market of its own."""
