"""Eighteen faults of a model, and what routerkit and its peers make of them. `python -m benchmarks.faults_of_peers --help`."""
