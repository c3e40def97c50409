"""Mutation testing: a module of the core is changed in one small place, and some test of that module must fail.

``python -m tests.mutation`` runs it (docs/development.md tells more). Code is changed by mutmut (:mod:`tests.mutation.code`),
tables of data by ourselves (:mod:`tests.mutation.tables`), because mutmut leaves alone what is not in a function. Changes
that make no difference to anybody are listed, each with its reason, in :mod:`tests.mutation.equivalent`.
"""
