# A task waits for a future that nobody sets: nothing shows that it is not idle.
import asyncio


async def main():
    print("ready", flush=True)
    await asyncio.get_event_loop().create_future()


asyncio.run(main())
