"""Every decision, and no I/O: clocks, randomness and locks come in as arguments. Start reading at :mod:`routerkit.core.call`."""
