"""Trade-halt feeds as a test writes them, and a server of them."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from aiohttp import web

HEAD = '<?xml version="1.0" encoding="utf-8"?>\r\n<rss version="2.0" xmlns:ndaq="http://www.nasdaqtrader.com/">'


def halt_item(
    symbol: str,
    date: str,
    time: str,
    reason: str = "T1",
    resumes: str = "",
    resumption_date: str | None = None,
    market: str = "NYSE",
) -> str:
    """Dates MM/DD/YYYY, times HH:MM:SS[.mmm]."""
    day = resumption_date if resumption_date is not None else (date if resumes else "")
    fields = {
        "HaltDate": date,
        "HaltTime": time,
        "IssueSymbol": symbol,
        "IssueName": "Some &amp; Company Cmn",
        "Market": market,
        "ReasonCode": reason,
        "PauseThresholdPrice": "",
        "ResumptionDate": day,
        "ResumptionQuoteTime": "",
        "ResumptionTradeTime": resumes,
    }
    lines = [f"<ndaq:{name}>{text}</ndaq:{name}>" if text else f"<ndaq:{name} />" for name, text in fields.items()]
    table = "<description><![CDATA[<table><tr><td>00/00/0000</td></tr></table>]]></description>"
    return (
        f"<item><title>{symbol}</title><pubDate>Mon, 24 Nov 2025 05:00:00 GMT</pubDate>{''.join(lines)}{table}</item>"
    )


def halt_document(items: Sequence[str]) -> bytes:
    body = f"<channel><title>Halts</title><ndaq:numItems>{len(items)}</ndaq:numItems>{''.join(items)}</channel></rss>"
    return (HEAD + body).encode()


class HaltServer:
    """Serves `body` at `url`, with an ETag; `seen` are the requests' If-None-Match, `answers` what they got."""

    def __init__(self) -> None:
        self.body = halt_document([])
        self.status = 200
        self.seen: list[str | None] = []
        self.answers: list[int] = []
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/rss.aspx", self._answer)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/rss.aspx?feed=tradehalts"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        tag = f'"{hash(self.body)}"'
        known = request.headers.get("If-None-Match")
        status = 304 if known == tag and self.status == 200 else self.status
        self.seen.append(known)
        self.answers.append(status)
        if status != 200:
            return web.Response(status=status, headers={"ETag": tag})
        return web.Response(body=self.body, headers={"ETag": tag}, content_type="text/xml")
