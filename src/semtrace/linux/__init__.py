"""Read what the kernel shows of another process: /proc, memory, futexes, /dev/shm."""
