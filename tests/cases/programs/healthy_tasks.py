# Healthy: many tasks take turns at one asyncio lock, so some always wait, and each gets it soon.
import asyncio


async def work():
    while True:
        async with turn_lock:
            await asyncio.sleep(0.05)


async def main():
    global turn_lock
    turn_lock = asyncio.Lock()
    workers = [asyncio.ensure_future(work()) for _ in range(4)]
    print("ready", flush=True)
    await asyncio.gather(*workers)


asyncio.run(main())
