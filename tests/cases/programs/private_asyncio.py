# Doubtful lock: an asyncio.Lock held in three forks at once. It may guard each process's own state.
import asyncio
import os

lock = asyncio.Lock()


async def serve():
    while True:
        async with lock:
            await asyncio.sleep(1)
        await asyncio.sleep(0.01)


for _ in range(3):
    if os.fork() == 0:
        asyncio.run(serve())
os.wait()
