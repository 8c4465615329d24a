# Doubtful: an asyncio.Lock in several workers. It may guard each process's own state.
import asyncio

lock = asyncio.Lock()


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    async with lock:
        await asyncio.sleep(1)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})
