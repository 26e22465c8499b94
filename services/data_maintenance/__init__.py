"""The nightly and periodic work on the stores: see docs/maintenance.md."""
