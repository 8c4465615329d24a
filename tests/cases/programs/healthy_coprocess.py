# Healthy: one thread reads what a program answers, another asks it each minute; a third program sleeps first.
import subprocess
import threading
import time

child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
threading.Thread(target=child.stdout.read, daemon=True).start()
sleeper = subprocess.Popen(["sh", "-c", "sleep 500; head -c 300000 /dev/zero"], stdout=subprocess.PIPE)
threading.Thread(target=sleeper.stdout.read, daemon=True).start()
print("ready", flush=True)
while True:
    time.sleep(60)
    child.stdin.write(b"question")
    child.stdin.flush()
