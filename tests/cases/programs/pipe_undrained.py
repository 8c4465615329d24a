# Sick: the same with subprocess: wait() while the child writes more than its pipe takes.
import subprocess
import sys

child = subprocess.Popen([sys.executable, "-c", "print('x' * 300000)"], stdout=subprocess.PIPE)
child.wait()
print(len(child.stdout.read()))
