# Sick: the parent writes all before it reads, and the program's output fills its pipe meanwhile.
import subprocess
import sys

TRIPLE = "import sys\nfor line in sys.stdin: sys.stdout.write(3 * line)"
child = subprocess.Popen([sys.executable, "-c", TRIPLE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
for number in range(300000):
    child.stdin.write(b"%d\n" % number)
child.stdin.close()
print(len(child.stdout.read()))
