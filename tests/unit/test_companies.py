"""Texts of companies in one spelling, and their sectors from SIC codes."""

import random
import unicodedata
from datetime import date

import pytest

from fastcore.fields import SECTORS
from services.kit.vendor.fmp import Profile
from services.market.companies import LONGEST_TEXT, plain_text
from services.market.dates import iso_date
from services.market.sectors import RANGES, known_sector, sic_division, sic_sector


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Apple Inc.", "Apple Inc."),
        ("Apple\u00a0Inc.", "Apple Inc."),
        ("Apple\tInc.\r\n", "Apple Inc."),
        ("Apple\u2028Inc.", "Apple Inc."),
        ("\u3000 Apple \u2003\x00 Inc.\x85", "Apple Inc."),
        ("App\u200ble\u00ad Inc.\ufeff", "Apple Inc."),
        ("Nestle\u0301 SA", "Nestl\u00e9 SA"),
        ("\ue000Acme\ud800", "Acme"),
        ("株式会社 \u3042", "株式会社 \u3042"),
        ("x" * 300, "x" * LONGEST_TEXT),
        ("\t\u00a0", None), ("", None), (None, None), (7, None),
    ],
)  # fmt: skip
def test_texts_are_in_one_spelling(text: object, plain: str | None) -> None:
    assert plain_text(text) == plain


@pytest.mark.parametrize("seed", range(20))
def test_whatever_comes_is_printable_and_stays_as_it_is_the_second_time(seed: int) -> None:
    rng = random.Random(seed)
    odd = ["\u00a0", "\t", "\u2028", "\u200b", "e\u0301", "\U0001f680", "\x7f", " ", "\u0378", "A", "b."]
    for _ in range(200):
        text = "".join(rng.choice([*odd, chr(rng.randrange(0x110000))]) for _ in range(rng.randint(0, 40)))
        plain = plain_text(text)
        if plain is None:
            assert not any(unicodedata.category(each)[0] in "LNPSM" for each in text)
            continue
        assert plain.isprintable() and plain == plain.strip() and "  " not in plain
        assert plain_text(plain) == plain == unicodedata.normalize("NFC", plain)
        plain.encode()


@pytest.mark.parametrize(
    ("code", "sector", "division"),
    [
        ("2834", "Healthcare", "Manufacturing"),
        ("3674", "Technology", "Manufacturing"),
        ("6021", "Financial Services", "Finance, Insurance, and Real Estate"),
        ("6324", "Healthcare", "Finance, Insurance, and Real Estate"),
        ("6798", "Real Estate", "Finance, Insurance, and Real Estate"),
        ("1311", "Energy", "Mining"),
        ("1040", "Basic Materials", "Mining"),
        ("4911", "Utilities", "Transportation, Communications, Electric, Gas, and Sanitary Services"),
        ("4813", "Communication Services", "Transportation, Communications, Electric, Gas, and Sanitary Services"),
        ("4512", "Industrials", "Transportation, Communications, Electric, Gas, and Sanitary Services"),
        ("5812", "Consumer Cyclical", "Retail Trade"),
        ("5331", "Consumer Defensive", "Retail Trade"),
        ("2011", "Consumer Defensive", "Manufacturing"),
        ("2821", "Basic Materials", "Manufacturing"),
        ("3571", "Technology", "Manufacturing"),
        ("3711", "Consumer Cyclical", "Manufacturing"),
        ("3721", "Industrials", "Manufacturing"),
        ("3841", "Healthcare", "Manufacturing"),
        ("7372", "Technology", "Services"),
        ("7311", "Communication Services", "Services"),
        ("100", "Consumer Defensive", "Agriculture, Forestry, and Fishing"),
        ("0100", "Consumer Defensive", "Agriculture, Forestry, and Fishing"),
        ("6770", "Financial Services", "Finance, Insurance, and Real Estate"),
        ("9721", None, "Public Administration"),
        ("8880", None, "Services"),
        ("9995", "Financial Services", None),
        ("1800", None, None), ("9999", None, None), ("", None, None), ("35", None, None), ("x571", None, None),
        ("٣٥٧١", None, None), (None, None, None),
    ],
)  # fmt: skip
def test_sectors_and_divisions_of_sic_codes(code: str | None, sector: str | None, division: str | None) -> None:
    assert (sic_sector(code), sic_division(code)) == (sector, division)


def test_every_code_of_a_business_has_one_of_the_eleven() -> None:
    firsts = [first for first, _ in RANGES]
    assert firsts == sorted(set(firsts))
    assert {sector for _, sector in RANGES} == {*SECTORS, None}
    # Households, foreign governments and public administration are nobody's business.
    without = {code for code in range(100, 9000) if sic_division(f"{code:04}") and sic_sector(f"{code:04}") is None}
    assert without == set(range(8800, 8900))
    assert {code for code in range(10_000) if sic_division(f"{code:04}") is None and sic_sector(f"{code:04}")} == {9995}


def test_the_second_sources_sectors() -> None:
    assert [known_sector(name) for name in SECTORS] == list(SECTORS)
    assert (known_sector("financial services"), known_sector("Conglomerates"), known_sector(None)) == (
        "Financial Services",
        None,
        None,
    )
    columns = Profile("A", company_name="A\u00a0Corp", sector="N/A", industry=" Oil\tGas ").columns()
    assert (columns["company_name"], columns["sector"], columns["industry"]) == ("A Corp", None, "Oil Gas")


def test_dates() -> None:
    assert iso_date("1980-12-12") == date(1980, 12, 12)
    assert [iso_date(text) for text in ("1980-12-32", "19801212", "", None)] == [None] * 4
