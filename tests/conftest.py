"""What all tests share: how many examples the property tests look at.

The ordinary run is short and always the same. ``pytest --hypothesis-profile=long`` looks at many more examples, new ones each
time; what it finds it keeps in ``.hypothesis``, prints, and tries first the next time.
"""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings

_BASE = settings(
    deadline=None,
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),  # to explain takes longer than to find
)

settings.register_profile("ordinary", _BASE, max_examples=40, derandomize=True)
settings.register_profile("long", _BASE, max_examples=5000, print_blob=True)
settings.load_profile("ordinary")  # before the option is read, which so overrides it
