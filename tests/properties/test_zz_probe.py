import tests.properties.test_gateways as g
from tests.properties.test_gateways import *
import attrs
SOME=[a for a in ACCOUNT if "in_flight" not in str(a)]
from hypothesis import settings, assume
def run(wide, refusal):
    wide = attrs.evolve(wide, last_resort=True)
    together = WideRun(wide); together.refuse(ACME, refusal=refusal); together.play()
    alone = WideRun(wide)
    for record in together.records:
        if record.ask.tenant == GLOBEX:
            alone.runtime.now = record.began
            alone.call(attrs.evolve(record.ask, after=0.0))
    a=[noticed(r) for r in alone.records]; b=[noticed(r) for r in together.records if r.ask.tenant==GLOBEX]
    assert a==b
DOWN = st.sampled_from([Answer("refusal",(500,(),())),FINE,Answer("refusal",(500,(),()))])
@settings(max_examples=20000)
@given(wides(answer=DOWN, asks=10), st.sampled_from(SOME))
def test_a(wide, refusal):
    run(wide, refusal)
