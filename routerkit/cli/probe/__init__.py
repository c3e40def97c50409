"""``routerkit probe``: the sweep, which asks each model of a catalogue the same question and reports how it went.

``command`` reads the options into a ``wish``, ``run`` carries it out: ``choice`` finds the models, ``schedule`` says when which is
asked, ``sweep`` asks, ``allowance`` keeps to what may be spent, ``measure`` makes samples of what comes of it, ``journal`` writes
them into the ``folder`` as they come, ``progress`` shows them. ``sample`` is what they all speak of. ``summary``, ``comparison``
and ``report`` make of the samples what people read.
"""
