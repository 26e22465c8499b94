"""What /health makes of several sequencers."""

from services.health.sequencers import Role, Sequencer, state_of, warnings_of

LEADER = Sequencer("SERVING", Role(role=Role.LEADER, is_synchronous=True, is_in_sync=True))
STANDBY = Sequencer("SERVING", Role(role=Role.STANDBY, lag_seconds=0.1))
AWAY = Sequencer("UNREACHABLE", None)


def test_the_state_is_that_of_the_one_that_leads() -> None:
    assert state_of({"a": LEADER, "b": STANDBY}) == "SERVING"
    assert state_of({"a": LEADER, "b": AWAY}) == "SERVING"
    unhealthy = LEADER._replace(state="NOT_SERVING")
    assert state_of({"a": STANDBY, "b": unhealthy}) == "NOT_SERVING"
    assert state_of({"a": STANDBY, "b": AWAY}) == "NOT_SERVING", "nobody leads"
    assert state_of({"a": AWAY, "b": AWAY}) == "UNREACHABLE"


def test_whoever_could_not_take_over_is_a_warning() -> None:
    assert warnings_of({"a": LEADER, "b": STANDBY}) == []
    assert warnings_of({"a": LEADER, "b": AWAY}) == ["data_ingest: the sequencer at b is UNREACHABLE"]
    loading = Sequencer("NOT_SERVING", Role(role=Role.STANDBY))
    alone = Sequencer("SERVING", Role(role=Role.LEADER, is_synchronous=True))
    assert warnings_of({"a": alone, "b": loading}) == [
        "data_ingest: no standby has what a shows: a takeover would begin a new epoch",
        "data_ingest: the sequencer at b neither leads nor has a copy of the leader's market",
    ]
    asynchronous = Sequencer("SERVING", Role(role=Role.LEADER))
    assert warnings_of({"a": asynchronous, "b": STANDBY}) == []
