# Two tasks of one event loop take two locks in opposite orders: the loop sleeps in epoll and looks idle.
import asyncio


async def move(first, second):
    async with first:
        await asyncio.sleep(0.1)
        async with second:  # waits
            print("unreachable", flush=True)


async def main():
    global left_lock, right_lock
    left_lock, right_lock = asyncio.Lock(), asyncio.Lock()
    moves = [asyncio.ensure_future(move(left_lock, right_lock)), asyncio.ensure_future(move(right_lock, left_lock))]
    print("ready", flush=True)
    await asyncio.gather(*moves)


asyncio.run(main())
