/* A server of C with one semaphore: `semaphores NAME CHILDREN`. It opens it with the value 0, and forks children that
   wait for it. A child that gets it writes its pid, and posts it when a byte comes through the pipe that all share as
   standard input. `semaphores NAME` opens a semaphore that is there, and waits for nothing. */
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void child(sem_t *semaphore)
{
    char byte;
    while (sem_wait(semaphore))
        ;
    dprintf(1, "%d\n", (int)getpid());
    if (read(0, &byte, 1) != 1)
        _exit(1);
    sem_post(semaphore);
    _exit(0);
}

int main(int argc, char **argv)
{
    int children = argc > 2 ? atoi(argv[2]) : 0;
    sem_t *semaphore = argc > 2 ? sem_open(argv[1], O_CREAT | O_EXCL, 0600, 0) : sem_open(argv[1], 0);
    if (semaphore == SEM_FAILED) {
        perror("sem_open");
        return 1;
    }
    for (int i = 0; i < children; i++)
        if (fork() == 0)
            child(semaphore);
    dprintf(1, "ready\n");
    for (int i = 0; i < children; i++)
        wait(NULL);
    for (;;)
        pause();
}
