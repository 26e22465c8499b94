"""The same work in vectorised numpy: what a good data scientist would write instead of a compiled core.

It keeps what the benchmark's feed can change (trades after the open, no bars):
last price, volume, count, dollars, highs and lows, open, and 10-second windows;
and it computes, filters, ranks and compares all built-in lists from these.
"""

import numpy as np

from bench.workload import SECOND, SLOTS, Trades, at

BUCKETS = 181
WINDOWS = (1, 5, 10, 15, 30)
# The built-in rules of the conditions that the workload uses.
FORBIDS_LAST = np.uint64(1 << 37 | 1 << 12)
FORBIDS_HIGH_LOW = np.uint64(1 << 37 | 1 << 12)


def percent(value: np.ndarray, base: np.ndarray) -> np.ndarray:
    rounded: np.ndarray = np.rint((value - base) / base * 100 * 1e6) / 1e6
    return rounded


class NumpyMarket:
    """Columns of one symbol each; ids are dense."""

    def __init__(
        self,
        prev_close: np.ndarray,
        avg_volume: np.ndarray,
        baseline: np.ndarray,
        trades_mean: np.ndarray,
        trades_sd: np.ndarray,
        symbol_order: np.ndarray,
    ) -> None:
        n = len(prev_close)
        self.prev_close, self.avg_volume = prev_close, avg_volume
        self.baseline, self.trades_mean, self.trades_sd = baseline, trades_mean, trades_sd
        self.symbol_order = symbol_order
        self.now = 0
        self.price = np.full(n, np.nan)
        self.price_time = np.zeros(n, np.int64)
        self.updated = np.zeros(n, np.int64)
        self.volume, self.count, self.dollars = np.zeros(n), np.zeros(n), np.zeros(n)
        self.high, self.low = np.full(n, -np.inf), np.full(n, np.inf)
        self.open = np.full(n, np.nan)
        self.bucket_volume = np.zeros((n, BUCKETS))
        self.bucket_price = np.full((n, BUCKETS), np.nan)
        self.bucket_time = np.zeros((n, BUCKETS), np.int64)
        self.bucket_number = np.zeros(BUCKETS, np.int64)
        self.previous: dict[str, dict[int, tuple[int, float]]] = {}

    def apply(self, trades: Trades) -> None:
        ids, price, size, time = trades.symbol_id, trades.price, trades.size, trades.time_ns
        n = len(self.price)
        self.now = max(self.now, int(time.max()))
        self.volume += np.bincount(ids, weights=size, minlength=n)
        self.count += np.bincount(ids, minlength=n)
        self.dollars += np.bincount(ids, weights=price * size, minlength=n)
        np.maximum.at(self.updated, ids, time)

        wide = (trades.conditions & FORBIDS_HIGH_LOW) == 0
        np.maximum.at(self.high, ids[wide], price[wide])
        np.minimum.at(self.low, ids[wide], price[wide])

        last = (trades.conditions & FORBIDS_LAST) == 0
        order = np.argsort(time[last], kind="stable")
        at_id, at_time, at_price = ids[last][order], time[last][order], price[last][order]
        newest = at_time >= self.price_time[at_id]
        # Fancy assignment keeps the last of equal ids, which is the newest trade.
        self.price[at_id[newest]] = at_price[newest]
        self.price_time[at_id[newest]] = at_time[newest]
        # The open is the first price-setting trade to arrive.
        first_ids, first = np.unique(ids[last], return_index=True)
        unopened = np.isnan(self.open[first_ids])
        self.open[first_ids[unopened]] = price[last][first[unopened]]

        number = time // (10 * SECOND)
        for value in np.unique(number):
            if self.bucket_number[value % BUCKETS] < value:
                self.bucket_volume[:, value % BUCKETS] = 0
                self.bucket_price[:, value % BUCKETS] = np.nan
                self.bucket_time[:, value % BUCKETS] = 0
                self.bucket_number[value % BUCKETS] = value
        np.add.at(self.bucket_volume.ravel(), ids.astype(np.int64) * BUCKETS + number % BUCKETS, size)
        flat = at_id.astype(np.int64) * BUCKETS + at_time // (10 * SECOND) % BUCKETS
        newer = at_time >= self.bucket_time.ravel()[flat]
        self.bucket_price.ravel()[flat[newer]] = at_price[newer]
        self.bucket_time.ravel()[flat[newer]] = at_time[newer]

    def columns(self) -> dict[str, np.ndarray]:
        """Every column that the built-in lists name, at now."""
        minutes = (self.now - at("04:00:00")) / (300 * SECOND)
        slot = min(int(minutes), SLOTS - 1)
        part = minutes - slot
        before = self.baseline[:, slot - 1] if slot else 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            c = {
                "price": self.price,
                "volume_today": self.volume,
                "age_seconds": np.where(self.updated > 0, (self.now - self.updated) / SECOND, np.nan),
                "change_percent": percent(self.price, self.prev_close),
                "gap_percent": percent(np.where(np.isnan(self.open), self.price, self.open), self.prev_close),
                "change_from_open": percent(self.price, self.open),
                "price_from_intraday_high": percent(self.price, self.high),
                "price_from_intraday_low": percent(self.price, self.low),
                "price_vs_vwap": percent(self.price, np.rint(self.dollars / self.volume * 1e6) / 1e6),
                "rvol": np.rint(self.volume / (before + (self.baseline[:, slot] - before) * part) * 1e6) / 1e6,
            }
            mean_before = self.trades_mean[:, slot - 1] if slot else 0.0
            sd_before = self.trades_sd[:, slot - 1] if slot else 0.0
            mean = mean_before + (self.trades_mean[:, slot] - mean_before) * part
            sd = sd_before + (self.trades_sd[:, slot] - sd_before) * part
            c["trades_z_score"] = np.rint((self.count - mean) / sd * 1e6) / 1e6
            ratio = np.rint(self.volume / self.avg_volume * 1e6) / 1e6
            c["score"] = np.rint((10 * c["rvol"] + 5 * ratio) * 1e6) / 1e6
            mark = self.now // (10 * SECOND)
            live = self.bucket_number > mark - 30
            old = np.where(self.bucket_number < mark - 30, self.bucket_number, -1)
            newest_old = np.argsort(old)[::-1]
            reference = np.full(len(self.price), np.nan)
            for bucket in newest_old[: int((old > 0).sum())]:
                reference = np.where(np.isnan(reference), self.bucket_price[:, bucket], reference)
            c["vol_5m"] = self.bucket_volume[:, live].sum(axis=1)
            c["chg_5m"] = percent(self.price, reference)
        return c

    def refresh(self) -> dict[str, np.ndarray]:
        """All built-in lists, best first, each compared with what it was before; ids by list."""
        c = self.columns()
        base = (c["price"] >= 1) & (c["volume_today"] >= 100_000) & (c["age_seconds"] <= 600)
        gap, change, from_open = c["gap_percent"], c["change_percent"], c["change_from_open"]
        high, low, rvol, z = c["price_from_intraday_high"], c["price_from_intraday_low"], c["rvol"], c["trades_z_score"]
        turned = ((gap >= 2) & (from_open <= -1)) | ((gap <= -2) & (from_open >= 1))
        strong = (rvol >= 1.5) & base
        lists = {
            "gappers_up": (base & (gap >= 2), (-gap,)),
            "gappers_down": (base & (gap <= -2), (gap,)),
            "winners": (strong & (change >= 5), (-change,)),
            "losers": (strong & (change <= -5), (change,)),
            "momentum_up": (strong & (high >= -1) & (change >= 1) & (c["price_vs_vwap"] > 0), (-change,)),
            "momentum_down": (strong & (low <= 1) & (change <= -1) & (c["price_vs_vwap"] < 0), (change,)),
            "high_volume": (base & (rvol >= 2), (-c["volume_today"],)),
            "anomalies": (base & ((z >= 3) | (np.isnan(z) & (rvol >= 3))), (-z, -rvol)),
            "new_highs": (base & (high >= -0.1), (-c["chg_5m"],)),
            "new_lows": (base & (low <= 0.1), (c["chg_5m"],)),
            "reversals": (base & turned, (-(np.abs(gap) + np.abs(from_open)),)),
            "filtered": (base, (-c["score"],)),
        }
        result = {}
        for name, (mask, keys) in lists.items():
            ids = np.flatnonzero(mask)
            order = np.lexsort((self.symbol_order[ids], *(key[ids] for key in reversed(keys))))
            top = ids[order[: 1000 if name == "filtered" else 100]]
            now = {int(i): (rank, float(self.volume[i])) for rank, i in enumerate(top, 1)}
            was = self.previous.get(name, {})
            removed = was.keys() - now.keys()
            changed = [i for i, row in now.items() if was.get(i) != row]
            self.previous[name] = now
            result[name] = top
            del removed, changed
        return result
