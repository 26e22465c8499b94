"""Coverage-guided fuzzing of what the compiled core takes from outside: `make fuzz` (CONTRIBUTING.md).

A target is a module of `targets`: its `run` gives bytes to a part of the core, and raises when what it does with them
is not what it promises. `corpus` has inputs for each, which tests/robustness/test_fuzz_corpus.py runs in every build.
"""
