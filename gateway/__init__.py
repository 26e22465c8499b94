"""Envoy's configuration and what it answers by, as files of a package (services/kit/runtime/packaged.py)."""
