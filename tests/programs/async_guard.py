"""An ASGI application that guards something with an asyncio.Lock, of which each worker has its own."""

import asyncio
import os

guard = asyncio.Lock()


async def asgi(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/hold":
        async with guard:
            await asyncio.sleep(600)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
