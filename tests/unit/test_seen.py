from hypothesis import given
from hypothesis import strategies as st

from serve_app.catalogue.seen import Seen

ids = st.lists(st.text(max_size=3), max_size=60)


@given(st.lists(ids, max_size=8), ids)
def test_an_id_is_new_once(blocks, others):
    seen, known = Seen(), set()
    for block in blocks:
        expected = []
        for each in block:
            expected.append(each not in known)
            known.add(each)
        assert seen.add(block) == expected
    assert len(seen) == len(known)
    assert seen.contains(others) == [each in known for each in others]
