"""The tests of the repositories without prepared statements: the answers are the same."""
