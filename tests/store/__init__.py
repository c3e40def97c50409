"""Stores: one list of tests for all of them, a reference that any history is held against, and Redis in good and bad days."""
