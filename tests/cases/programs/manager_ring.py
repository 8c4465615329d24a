# Sick: two clients take two RLocks of a Manager in opposite orders.
import multiprocessing

mp = multiprocessing.get_context("fork")


def embrace(first, second, both):
    with first:
        both.wait()
        with second:  # waits
            pass


if __name__ == "__main__":
    manager = mp.Manager()
    stock, prices = manager.RLock(), manager.RLock()
    both = mp.Barrier(2)
    pairs = [(stock, prices), (prices, stock)]
    children = [mp.Process(target=embrace, args=(*pair, both)) for pair in pairs]
    for child in children:
        child.start()
    print("ready", [child.pid for child in children], flush=True)
    for child in children:
        child.join()
