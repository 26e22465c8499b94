"""The peer of REST reads: a minimal FastAPI endpoint that answers with what Redis holds.

    python -m bench.fastapi_peer PORT REDIS_URL

/raw/{list} passes Redis' bytes on, which is the least such an endpoint can do; /json/{list} decodes
them and lets FastAPI encode the answer, which is how such endpoints are mostly written.
"""

import json
import sys
from typing import Any, cast

import redis.asyncio
import uvicorn
from fastapi import FastAPI, HTTPException, Response


def key(name: str) -> str:
    return f"scanner:list:{name}:snapshot"


def application(redis_url: str) -> FastAPI:
    app = FastAPI()
    store = redis.asyncio.Redis.from_url(redis_url)

    async def held(name: str) -> bytes:
        body = await store.get(key(name))
        if body is None:
            raise HTTPException(404)
        return cast(bytes, body)

    @app.get("/raw/{name}")
    async def raw(name: str) -> Response:
        return Response(await held(name), media_type="application/json")

    @app.get("/json/{name}")
    async def decoded(name: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(await held(name))
        return answer

    return app


if __name__ == "__main__":
    uvicorn.run(
        application(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False
    )
