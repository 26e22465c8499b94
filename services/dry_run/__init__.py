"""A past day in one process: the replay's feed into the sequencer's own code, with one alert rule and no network."""
