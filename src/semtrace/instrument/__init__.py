"""Inside the server: traced locks. Standard library only, and nothing here may ever break the application.

`patch` hooks multiprocessing's SemLock; `mutex` and `counting` are the hot paths. `session` is the process's own state:
the mapped file (`books`), the FIFOs (`viewers`), call sites (`sites`), and where they lie (`places`).
"""
