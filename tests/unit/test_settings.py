"""Settings from an environment: names, defaults that follow from others, and every error at once."""

import pytest

from services.kit.runtime.errors import SettingsError
from services.kit.runtime.settings import GROUPS, VARIABLES, Settings


def test_each_setting_has_a_variable_of_its_own_that_its_description_names() -> None:
    assert len(set(VARIABLES.values())) == len(VARIABLES)
    for (*groups, name), variable in VARIABLES.items():
        if groups != ["addresses"]:
            model = GROUPS[groups[0]] if groups else Settings
            assert (model.model_fields[name].description or "").startswith(f"{variable}: "), variable


def test_an_empty_variable_is_not_set_but_for_the_halts() -> None:
    empty = Settings.load(dict.fromkeys(VARIABLES.values(), ""))
    assert empty == Settings.load({"TRADEUL_HALTS_URL": ""})
    assert empty.halts_url == "" != Settings.load({}).halts_url


def test_lists_are_separated_by_commas() -> None:
    settings = Settings.load({"TRADEUL_SUBSCRIPTIONS": " T.*, AM.AAPL ,", "TRADEUL_SIM_CHANNELS": "T,AM"})
    assert settings.subscriptions == ("T.*", "AM.AAPL")
    assert settings.sim.channels == ("T", "AM")


def test_every_error_is_reported_by_its_variable() -> None:
    wrong = {
        "TRADEUL_REDIS_URL": "http://redis",
        "TRADEUL_SUBSCRIPTIONS": "T.*,nothing",
        "TRADEUL_SCANNER_ADDRESS": "scanner",
        "POLYGON_REST_URL": "ftp://vendor",
        "TRADEUL_SIM_CHANNELS": "T,X",
        "TRADEUL_REPLAY_SPEED": "0",
        "TRADEUL_KEEP_LOADS": "-1",
    }
    with pytest.raises(SettingsError) as raised:
        Settings.load(wrong)
    first, *lines = str(raised.value).splitlines()
    assert first == "wrong settings:"
    assert sorted(line.strip().partition(": ")[0] for line in lines) == sorted(wrong)


def test_a_replays_time_is_that_of_its_events() -> None:
    with pytest.raises(SettingsError, match="settings: a replay's time is that of its events"):
        Settings.load({"TRADEUL_REPLAY_DATE": "2025-11-24", "TRADEUL_CLOCK": "wall"})


def test_what_services_bind_may_differ_from_where_they_are_found() -> None:
    settings = Settings.load({"TRADEUL_LISTEN_HOST": "0.0.0.0", "TRADEUL_SCANNER_ADDRESS": "scanner:8001"})
    assert str(settings.address("scanner")) == "scanner:8001"
    assert str(settings.listen_address("scanner")) == "0.0.0.0:8001"
    assert str(settings.metrics_address("scanner")) == "0.0.0.0:18001"
    # Others reach the gateway then.
    assert settings.requires_keys and not Settings.load({}).requires_keys
    assert Settings.load({}).listen_address("scanner") == Settings.load({}).address("scanner")
