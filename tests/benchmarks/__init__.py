"""Benchmarks. They print figures and judge nothing: `make bench`, `make bench-events`."""
