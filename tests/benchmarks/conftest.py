"""Benchmarks are no tests: `python tests/benchmarks/bench.py` runs them."""

collect_ignore_glob = ["*.py"]
