"""Stands in for the runner in tests of the launcher: same command line, events and exit codes, no training."""
