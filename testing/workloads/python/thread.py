# A thread that computes, for a recorded case: `python3 thread.py`.
import threading

def leaf(n):
    total = 0
    for i in range(n):
        total += i * i
    return total

def caller(n):
    return sum(
        leaf(n)
        for _ in range(3))

def forever():
    while True:
        caller(20000)

thread = threading.Thread(target=forever, daemon=True)
thread.start()
thread.join()
