from typing import final

@final
class AlertEvent:
    """One alert of a Market, as of the watermark that found it.

    `sequence`: 1 for the first of the epoch; `symbol_id`: as in MarketState; `time_ns`: event time, ns since 1970 UTC.
    `quality_rank`: the percentage of the day's earlier alerts of the rule with a lower quality, None for the first 10
    and without a quality; `level`: what steps() reached, None without it.
    """

    sequence: int
    rule: str
    symbol_id: int
    symbol: str
    time_ns: int
    quality: float | None
    quality_rank: float | None
    level: float | None
