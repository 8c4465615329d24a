# The task that took the lock ended without a release, and two others wait for it. A timer runs all the time.
import asyncio


async def tick():
    while True:
        await asyncio.sleep(0.05)


async def fail():
    await stock_lock.acquire()
    raise ValueError("no stock")


async def sell():
    async with stock_lock:  # waits
        print("unreachable", flush=True)


async def main():
    global stock_lock
    stock_lock = asyncio.Lock()
    timer = asyncio.ensure_future(tick())
    await asyncio.gather(fail(), return_exceptions=True)
    print("ready", flush=True)
    await asyncio.gather(sell(), sell(), timer)


asyncio.run(main())
