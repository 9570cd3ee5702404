"""The event log beside bare SQL and the package eventsourcing, in one run: `make bench-events`.

One module for each group of comparisons. Each contender works on a table of its own, loaded with the same
events: an empty table gives other plans.
"""
