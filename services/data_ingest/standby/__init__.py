"""Several sequencers, of which one leads: the lease, what the leader sends to those that stand by, and their copy."""
