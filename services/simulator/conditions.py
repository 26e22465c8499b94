"""Sale conditions: the vendor's ids, names and rules, and what the simulated trades carry."""

from typing import Final, NamedTuple


class SaleCondition(NamedTuple):
    """A row of /v3/reference/conditions; which sums of the consolidated tape a trade with it updates."""

    id: int
    name: str
    high_low: bool = True
    open_close: bool = True
    volume: bool = True


FORM_T: Final = 12
OFFICIAL_CLOSE: Final = 15
OFFICIAL_OPEN: Final = 16
ODD_LOT: Final = 37

SALE_CONDITIONS: Final = (
    SaleCondition(0, "Regular Sale"),
    SaleCondition(1, "Acquisition"),
    SaleCondition(2, "Average Price Trade", False, False),
    SaleCondition(3, "Automatic Execution"),
    SaleCondition(4, "Bunched Trade"),
    SaleCondition(5, "Bunched Sold Trade", True, False),
    SaleCondition(6, "CAP Election"),
    SaleCondition(7, "Cash Sale", False, False),
    SaleCondition(8, "Closing Prints"),
    SaleCondition(9, "Cross Trade"),
    SaleCondition(10, "Derivatively Priced", True, False),
    SaleCondition(11, "Distribution"),
    SaleCondition(FORM_T, "Form T/Extended Hours", False, False),
    SaleCondition(13, "Extended Hours (Sold Out Of Sequence)", False, False),
    SaleCondition(14, "Intermarket Sweep"),
    SaleCondition(OFFICIAL_CLOSE, "Market Center Official Close", False, False, False),
    SaleCondition(OFFICIAL_OPEN, "Market Center Official Open", False, False, False),
    SaleCondition(17, "Market Center Opening Trade"),
    SaleCondition(18, "Market Center Reopening Trade"),
    SaleCondition(19, "Market Center Closing Trade"),
    SaleCondition(20, "Next Day", False, False),
    SaleCondition(21, "Price Variation Trade", False, False),
    SaleCondition(22, "Prior Reference Price", True, False),
    SaleCondition(23, "Rule 155 Trade"),
    SaleCondition(24, "Rule 127 Trade"),
    SaleCondition(25, "Opening Prints"),
    SaleCondition(26, "Opened"),
    SaleCondition(27, "Stopped Stock (Regular Trade)"),
    SaleCondition(28, "Re-Opening Prints"),
    SaleCondition(29, "Seller", False, False),
    SaleCondition(30, "Sold Last"),
    SaleCondition(31, "Sold Last and Stopped Stock"),
    SaleCondition(32, "Sold (Out Of Sequence)", True, False),
    SaleCondition(33, "Sold (Out Of Sequence) and Stopped Stock", True, False),
    SaleCondition(34, "Split Trade"),
    SaleCondition(35, "Stock Option"),
    SaleCondition(36, "Yellow Flag Regular Trade"),
    SaleCondition(ODD_LOT, "Odd Lot Trade", False, False),
    SaleCondition(38, "Corrected Consolidated Close (per listing market)", True, True, False),
    SaleCondition(41, "Trade Thru Exempt"),
    SaleCondition(52, "Contingent Trade", False, False),
    SaleCondition(53, "Qualified Contingent Trade (QCT)", False, False),
)

# The sets of conditions that a trade may carry; its code is the index.
SETS: Final = (
    (), (14,), (37,), (14, 37), (12,), (12, 37), (12, 14), (25,), (8,), (18,),
    (32,), (12, 13),
    # Now and then, in regular hours.
    (2,), (7,), (9,), (10,), (20,), (21,), (22,), (29,), (33,), (41,), (52,), (53,), (5,), (4,),
)  # fmt: skip
PLAIN, SWEEP, ODD, ODD_SWEEP, EXTENDED, EXTENDED_ODD, EXTENDED_SWEEP, OPENING, CLOSING, REOPENING = range(10)
OUT_OF_SEQUENCE, EXTENDED_OUT_OF_SEQUENCE = 10, 11
RARE: Final = range(12, len(SETS))
# How each is written in a trade's message.
TEXTS: Final = tuple('"c":[' + ",".join(map(str, one)) + "]," if one else "" for one in SETS)
