# Sick: a module waits for a Pool's result while it is imported. Its thread that sends the job needs the import lock.
import multiprocessing

if __name__ == "__main__":
    import pool_at_import  # noqa: F401
else:

    def job(number):
        return number

    pool = multiprocessing.get_context("fork").Pool(2)
    pool.map(job, range(4))  # waits
