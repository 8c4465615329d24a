# Sick: both ends of a Pipe wait for the other to begin.
import multiprocessing

mp = multiprocessing.get_context("fork")
here, there = mp.Pipe()


def serve():
    there.recv()
    there.send("answer")


if __name__ == "__main__":
    mp.Process(target=serve).start()
    here.recv()
    here.send("question")
