# Sick: the parent reads the output of a program to the end, and that one fills a pipe that the parent does not read.
import subprocess
import sys

FILL = "import sys; sys.stderr.write('x' * 1000000); print('done')"
child = subprocess.Popen([sys.executable, "-c", FILL], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
print(len(child.stdout.read()))
