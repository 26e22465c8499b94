"""A company's sector from its SIC code: one of the eleven names of fastcore.fields.SECTORS.

The codes and what they stand for are the SEC's list (https://www.sec.gov/search-filings/standard-industrial-classification-sic-code-list),
their divisions those of the SIC manual (https://www.osha.gov/data/sic-manual). That a code can be given one of
the sectors that traders know is an old idea; this table is the project's own. It follows where the second source puts
companies with that code: a code whose companies differ has the sector of most of them.
"""

import bisect
from typing import Final

from fastcore.fields import SECTORS

BASIC, COMMUNICATION, CYCLICAL, DEFENSIVE, ENERGY, FINANCIAL, HEALTH, INDUSTRIAL, REALTY, TECHNOLOGY, UTILITY = SECTORS

# The division of the first two digits of a code.
_DIVISIONS: Final = (
    (1, 9, "Agriculture, Forestry, and Fishing"),
    (10, 14, "Mining"),
    (15, 17, "Construction"),
    (20, 39, "Manufacturing"),
    (40, 49, "Transportation, Communications, Electric, Gas, and Sanitary Services"),
    (50, 51, "Wholesale Trade"),
    (52, 59, "Retail Trade"),
    (60, 67, "Finance, Insurance, and Real Estate"),
    (70, 89, "Services"),
    (91, 97, "Public Administration"),
)

# The first code of each range, up to the next one; None: none of the eleven sectors.
RANGES: Final[tuple[tuple[int, str | None], ...]] = (
    (0, None),
    # Agriculture, Forestry, and Fishing
    (100, DEFENSIVE),  # crops, livestock, their services
    (800, BASIC),  # forestry
    (900, DEFENSIVE),  # fishing, hunting
    # Mining
    (1000, BASIC),  # metals
    (1200, ENERGY),  # coal, oil, gas, and services to their fields
    (1400, BASIC),  # stone, sand, clay, minerals
    # Construction
    (1500, CYCLICAL),  # builders of homes
    (1540, INDUSTRIAL),  # other builders and contractors
    (1800, None),
    # Manufacturing
    (2000, DEFENSIVE),  # food, drinks, tobacco
    (2200, CYCLICAL),  # textiles, apparel
    (2400, BASIC),  # lumber
    (2430, INDUSTRIAL),  # millwork, plywood
    (2440, CYCLICAL),  # wooden boxes, mobile and prefabricated homes
    (2490, BASIC),  # other wood
    (2500, CYCLICAL),  # household furniture
    (2520, INDUSTRIAL),  # furniture of offices and public buildings, fixtures
    (2590, CYCLICAL),  # other furniture
    (2600, BASIC),  # pulp, paper
    (2640, CYCLICAL),  # boxes, bags and other converted paper
    (2700, COMMUNICATION),  # newspapers, periodicals, books
    (2750, INDUSTRIAL),  # printing, forms
    (2770, CYCLICAL),  # greeting cards
    (2780, INDUSTRIAL),  # blankbooks, services to printers
    (2800, BASIC),  # chemicals, plastics, fibres
    (2830, HEALTH),  # drugs, biological products, diagnostics
    (2840, DEFENSIVE),  # soap, cleaners, perfumes, cosmetics
    (2850, BASIC),  # paints, fertilisers, other chemicals
    (2900, ENERGY),  # petroleum refining
    (2950, BASIC),  # asphalt, roofing
    (2990, ENERGY),  # other products of petroleum and coal
    (3000, CYCLICAL),  # tires, rubber footwear
    (3050, INDUSTRIAL),  # gaskets, hoses, other rubber
    (3080, CYCLICAL),  # plastics products, packaging among them; leather, shoes
    (3200, BASIC),  # flat glass
    (3220, CYCLICAL),  # glassware and containers
    (3230, BASIC),  # cement, clay, concrete, stone
    (3260, CYCLICAL),  # pottery
    (3270, BASIC),  # concrete, gypsum, stone, abrasives
    (3300, BASIC),  # steel, other metals
    (3357, INDUSTRIAL),  # drawn and insulated wire
    (3358, BASIC),
    (3400, CYCLICAL),  # metal cans
    (3420, INDUSTRIAL),  # tools, hardware, structures, ordnance, machinery
    (3559, TECHNOLOGY),  # special machinery: mostly that which makes semiconductors
    (3560, INDUSTRIAL),  # pumps, bearings, other general machinery
    (3570, TECHNOLOGY),  # computers, storage, office machines
    (3580, INDUSTRIAL),  # refrigeration, other machinery; distribution of power, motors
    (3630, CYCLICAL),  # household appliances
    (3640, INDUSTRIAL),  # lighting, wiring
    (3650, TECHNOLOGY),  # audio, video
    (3652, COMMUNICATION),  # records
    (3660, TECHNOLOGY),  # communications equipment, electronic components, semiconductors
    (3690, INDUSTRIAL),  # batteries, other electrical equipment
    (3694, CYCLICAL),  # electrical parts of engines
    (3695, TECHNOLOGY),  # recording media
    (3696, INDUSTRIAL),
    (3700, CYCLICAL),  # cars, their parts
    (3713, INDUSTRIAL),  # bodies of trucks and buses
    (3714, CYCLICAL),  # parts of cars
    (3715, INDUSTRIAL),  # trailers of trucks
    (3716, CYCLICAL),  # motor homes
    (3720, INDUSTRIAL),  # aircraft, ships
    (3732, CYCLICAL),  # boats
    (3733, INDUSTRIAL),  # railroad equipment
    (3750, CYCLICAL),  # motorcycles, bicycles
    (3760, INDUSTRIAL),  # missiles, space vehicles
    (3790, CYCLICAL),  # campers, golf carts, snowmobiles
    (3795, INDUSTRIAL),  # tanks
    (3796, CYCLICAL),
    (3800, INDUSTRIAL),  # navigation, guidance
    (3820, TECHNOLOGY),  # instruments that measure
    (3821, HEALTH),  # laboratory apparatus
    (3822, INDUSTRIAL),  # controls of buildings
    (3823, TECHNOLOGY),  # instruments of industry, of electricity
    (3826, HEALTH),  # laboratory analysis
    (3827, TECHNOLOGY),  # optics, other instruments that measure
    (3840, HEALTH),  # surgical, medical, dental, ophthalmic
    (3860, TECHNOLOGY),  # photography
    (3870, CYCLICAL),  # watches, jewelry, toys, sports, pens
    (3990, INDUSTRIAL),  # the rest of manufacturing
    # Transportation, Communications, Electric, Gas, and Sanitary Services
    (4000, INDUSTRIAL),  # rail, road, water, air, warehouses
    (4600, ENERGY),  # pipelines
    (4700, CYCLICAL),  # travel
    (4730, INDUSTRIAL),  # arrangement of freight
    (4800, COMMUNICATION),  # telephone, radio, television, cable
    (4900, UTILITY),  # electricity
    (4922, ENERGY),  # transmission of natural gas
    (4923, UTILITY),  # distribution of gas, water
    (4950, INDUSTRIAL),  # sewerage, refuse
    (4960, UTILITY),  # steam, irrigation, cogeneration
    # Wholesale Trade
    (5000, INDUSTRIAL),
    (5010, CYCLICAL),  # cars, parts, furniture
    (5030, INDUSTRIAL),  # lumber, equipment of offices
    (5045, TECHNOLOGY),  # computers, software
    (5046, INDUSTRIAL),
    (5047, HEALTH),  # medical, dental
    (5048, INDUSTRIAL),
    (5050, BASIC),  # metals, minerals
    (5060, INDUSTRIAL),  # electrical apparatus
    (5064, CYCLICAL),  # appliances
    (5065, TECHNOLOGY),  # electronic parts
    (5066, INDUSTRIAL),  # hardware, plumbing, machinery
    (5090, CYCLICAL),  # sports, toys, jewelry
    (5100, INDUSTRIAL),  # paper
    (5120, HEALTH),  # drugs
    (5130, CYCLICAL),  # apparel
    (5140, DEFENSIVE),  # groceries, products of farms
    (5160, BASIC),  # chemicals
    (5170, ENERGY),  # petroleum
    (5180, DEFENSIVE),  # beer, wine, the rest
    # Retail Trade
    (5200, CYCLICAL),  # building materials, department stores
    (5330, DEFENSIVE),  # variety and general stores, food
    (5500, CYCLICAL),  # cars, apparel, furniture, electronics, restaurants
    (5912, HEALTH),  # drug stores
    (5913, CYCLICAL),  # sports, books, jewelry, catalogues, mail order
    (5983, ENERGY),  # heating oil
    (5984, UTILITY),  # bottled gas
    (5985, CYCLICAL),
    # Finance, Insurance, and Real Estate
    (6000, FINANCIAL),  # banks, credit, brokers, insurance
    (6324, HEALTH),  # hospital and medical plans
    (6325, FINANCIAL),
    (6500, REALTY),
    (6600, FINANCIAL),  # holding companies, trusts, blank checks
    (6792, ENERGY),  # oil royalties
    (6793, FINANCIAL),
    (6794, INDUSTRIAL),  # owners of patents
    (6795, BASIC),  # mineral royalties
    (6796, FINANCIAL),
    (6798, REALTY),  # real estate investment trusts
    (6799, FINANCIAL),
    (6800, None),
    # Services
    (7000, CYCLICAL),  # hotels, personal services
    (7300, INDUSTRIAL),
    (7310, COMMUNICATION),  # advertising
    (7320, INDUSTRIAL),  # credit reports, mailing, cleaning, rental, staff
    (7370, TECHNOLOGY),  # software, data
    (7380, INDUSTRIAL),  # other services to business
    (7384, CYCLICAL),  # photofinishing
    (7385, INDUSTRIAL),
    (7500, INDUSTRIAL),  # rental of cars, parking
    (7530, CYCLICAL),  # repair of cars
    (7600, INDUSTRIAL),  # other repair
    (7800, COMMUNICATION),  # films, their distribution, theatres
    (7900, CYCLICAL),  # amusement, sports
    (8000, HEALTH),
    (8100, INDUSTRIAL),  # law
    (8200, DEFENSIVE),  # education
    (8300, CYCLICAL),  # care of children, museums, associations
    (8700, INDUSTRIAL),  # engineering, accounting
    (8730, HEALTH),  # research, laboratories that test
    (8740, INDUSTRIAL),  # management, consulting
    (8800, None),  # households; the SEC's receipts and foreign governments
    (8900, INDUSTRIAL),
    # Public Administration, and what cannot be classified
    (9000, None),
    (9995, FINANCIAL),  # shells
    (9996, None),
)
_FIRST: Final = [first for first, _ in RANGES]


def sic_division(code: str | None) -> str | None:
    """The division of a four-digit SIC code; None when it has none."""
    if (number := _number(code)) is None:
        return None
    return next((name for first, last, name in _DIVISIONS if first <= number // 100 <= last), None)


def sic_sector(code: str | None) -> str | None:
    """The sector of a four-digit SIC code; None when it has none."""
    return None if (number := _number(code)) is None else RANGES[bisect.bisect_right(_FIRST, number) - 1][1]


def known_sector(text: str | None) -> str | None:
    """`text` when it is one of the eleven, however it is capitalised; else None."""
    return None if text is None else _BY_LOWER.get(text.lower())


_BY_LOWER: Final = {name.lower(): name for name in SECTORS}


def _number(code: str | None) -> int | None:
    # Codes of agriculture lose their leading zero here and there.
    if code is None or len(code) not in (3, 4) or not code.isascii() or not code.isdecimal():
        return None
    return int(code)
