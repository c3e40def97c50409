"""A deterministic simulation: whole processes of routerkit, gateways that misbehave over time, one virtual clock.

- `world`: the clock, the processes and the calls under way; it performs the core's effects, and takes no time to wait.
- `upstream`: the gateways, their models and what befalls them when.
- `watch`: what must hold in every run, checked while it happens.
- `scenarios`: outages as data, and `figures`, which counts what came of them.
- `chaos`: outages at random, of one gateway with one key, from a seed.
- `tenants`: the same of several gateways, with keys, tenants, limits and strategies; `histories` draws them, and `oracle` watches
  what must hold of them as well.

Everything that happens follows from the seed: the same seed gives the same trace, byte for byte. A seed that showed a bug is
kept in `seeds.txt` and run for ever. Many seeds: `python -m tests.simulation --seeds 200`.

No shared store, as yet: Redis would be a further effect, which `world.Flow` would have to perform.
"""
