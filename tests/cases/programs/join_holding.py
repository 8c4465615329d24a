# Sick: the parent joins children that want its lock.
import multiprocessing

mp = multiprocessing.get_context("fork")
store = mp.RLock()


def save():
    with store:  # waits
        pass


if __name__ == "__main__":
    with store:
        children = [mp.Process(target=save) for _ in range(2)]
        for child in children:
            child.start()
        for child in children:
            child.join()
