"""Bytes from outside against everything that reads them: ``python -m tests.fuzz NAME --seconds 600``.

A harness (:mod:`tests.fuzz.harnesses`) takes any bytes and raises when something is wrong. The command runs one for long, with
atheris where it is installed, else with hypothesis; what it finds goes into ``corpus/NAME/``, and the tests replay all of that.
"""
