# Sick: wait() for a child that reads its input to the end, which only the parent could close.
import subprocess

child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
child.stdin.write(b"one line")
child.stdin.flush()
child.wait()
