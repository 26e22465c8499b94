"""Benchmarks: `make bench` prints every figure beside its peers and writes build/bench.json."""
