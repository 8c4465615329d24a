# Sick: wait() for a shell whose pipeline writes more than its pipe takes.
import subprocess

child = subprocess.Popen("head -c 300000 /dev/zero | cat; true", shell=True, stdout=subprocess.PIPE)
child.wait()
print(len(child.stdout.read()))
