"""The `tradeul` command."""
