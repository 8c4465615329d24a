# Sick: jobs of one Pool use another one, which they have from their parent by the fork.
import multiprocessing

mp = multiprocessing.get_context("fork")
inner = None


def double(number):
    return 2 * number


def total(numbers):
    return sum(inner.map(double, numbers))  # waits


if __name__ == "__main__":
    inner = mp.Pool(2)
    outer = mp.Pool(2)
    print(outer.map(total, [[1, 2], [3, 4]]))
