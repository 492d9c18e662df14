"""The European Central Bank's files and plain CSV are read; what can't be is named."""

import io
import zipfile
from datetime import date
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.errors import BadInput
from serve_app.rate_formats import ECB, parse_rates, plain_csv
from serve_app.rates import Rate

# Excerpts of the European Central Bank's files of that day.
DAILY = b"Date, USD, JPY, HUF, \n30 October 2026, 1.1172, 175.68, 366.33, \n"
HISTORY = (
    b"Date,USD,JPY,BGN,RUB,\n2026-10-29,1.113,175.92,N/A,N/A,\n2026-10-30,1.1172,175.68,N/A,N/A,\n"
    b"2022-03-01,1.1162,128.66,1.9558,117.201,\n"
)
XML = b"""<?xml version="1.0" encoding="UTF-8"?>
<gesmes:Envelope xmlns:gesmes="http://www.gesmes.org/xml/2002-08-01"
  xmlns="http://www.ecb.int/vocabulary/2002-08-01/eurofxref">
 <gesmes:subject>Reference rates</gesmes:subject>
 <Cube>
  <Cube time='2026-10-29'><Cube currency='USD' rate='1.113'/><Cube currency='JPY' rate='175.92'/></Cube>
  <Cube time='2026-10-30'><Cube currency='USD' rate='1.1172'/><Cube currency='JPY' rate='175.68'/></Cube>
 </Cube>
</gesmes:Envelope>
"""
PLAIN = b"source,currency,per_eur,date\nmy bank,USD,1.1172,2026-10-30\nmy bank,JPY,175.68,2026-10-30\n\n"


def zipped(content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("eurofxref.csv", content)
    return packed.getvalue()


@pytest.mark.parametrize(
    "content", [DAILY, HISTORY, XML, PLAIN, zipped(DAILY), zipped(HISTORY), b"\xef\xbb\xbf" + PLAIN]
)
def test_the_newest_day_of_every_format_is_read(content):
    found = {rate.currency: rate for rate in parse_rates(content)}
    assert found["USD"].per_eur == Fraction("1.1172")
    assert found["JPY"].per_eur == Fraction("175.68")
    assert found["USD"].day == date(2026, 10, 30)
    assert found["USD"].source in (ECB, "my bank")


def test_a_currency_that_is_not_quoted_any_more_is_left_out():
    assert {rate.currency for rate in parse_rates(HISTORY)} == {"USD", "JPY"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no CSV with the columns"),
        (b"a,b\n1,2\n", "no CSV with the columns"),
        (b"\xff\xfe", "neither text"),
        (b"PK\x03\x04", "neither text"),
        (zipped(b"a,b\n"), "no CSV with the columns"),
        (b"<a>", "can't be read"),
        (b"<a/>", "no day"),
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "document type"),
        (b"Date, USD, \n", "no day of rates"),
        (b"Date, USD, \n30 Oktober 2026, 1.1, \n", "line 2: '30 Oktober 2026' is no day"),
        (b"Date, USD, \n30 October 2026, N/A, \n", "no rate"),
        (b"currency,per_eur,date,source\nUSD,1.1,2026-10-30,\n", "line 2 has no source"),
        (b"currency,per_eur,date,source\nUSD,1.1,,x\n", "line 2 has no date"),
        (b"currency,per_eur,date,source\nUSD,0,2026-10-30,x\n", "'0' is no rate"),
        (b"currency,per_eur,date,source\nUSD,-1,2026-10-30,x\n", "'-1' is no rate"),
        (b"currency,per_eur,date,source\nUSD,1e3,2026-10-30,x\n", "'1e3' is no rate"),
        (b"currency,per_eur,date,source\nUSX,1,2026-10-30,x\n", "line 2: 'USX' is no currency"),
        (b"currency,per_eur,date,source\nUSD,1,30.10.2026,x\n", "is no day"),
        (b"currency,per_eur,date,source\nEUR,2,2026-10-30,x\n", "one euro is one euro"),
        (b"currency,per_eur,date,source\nUSD,1,2026-10-30,x\nUSD,2,2026-10-30,y\n", "two rates of USD"),
        (b"currency,per_eur,date,source\nUSD,1,2026-10-30,\x07\n", "can't be shown"),
    ],
)
def test_what_is_no_table_of_rates_is_refused(content, message):
    with pytest.raises(BadInput, match=message):
        parse_rates(content)


RATES = st.builds(
    Rate,
    st.sampled_from(["USD", "JPY", "KWD"]),
    st.decimals("0.000000000001", "999999999999", places=12).map(Fraction),
    st.dates(),
    st.sampled_from([ECB, 'a "quoted", name', "銀行"]),
)


@settings(deadline=None)
@given(st.lists(RATES, min_size=1, unique_by=lambda rate: rate.currency))
def test_rates_are_written_as_they_were(rates):
    assert sorted(parse_rates(plain_csv(rates).encode()), key=lambda rate: rate.currency) == sorted(
        rates, key=lambda rate: rate.currency
    )
