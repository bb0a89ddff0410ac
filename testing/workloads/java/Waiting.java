// Virtual threads that give up their carriers at the floor of a deep stack: when one goes on, most of
// its callers wait in the heap, and are fetched a few at a time.
//
//   java -cp DIR Waiting
//
// Every stack of them: run, then down and hop in turn; `floor` lies below DEPTH + 1 times down. `spin`
// is called by floor and hop. Prints `ready` and runs until it is killed; needs JDK 21.

import java.lang.reflect.Method;

public class Waiting {
    static final int DEPTH = 120;
    public static volatile long sink;

    static int down(int n) {
        return n == 0 ? floor() : hop(n - 1) + 1;
    }

    static int hop(int n) {
        int below = down(n);
        return below + spin(n & 1);
    }

    static int floor() {
        int sum = 0;
        for (int i = 0; i < 3; i++) {
            for (int k = 0; k < 60; k++) sum += spin(k);
            Thread.yield();
        }
        return sum;
    }

    static int spin(int x) {
        for (int i = 0; i < 2000; i++) x = x * 31 + i;
        sink = x;
        return x & 7;
    }

    static void run() {
        while (true) down(DEPTH);
    }

    public static void main(String[] args) throws Exception {
        Method start = Thread.class.getMethod("startVirtualThread", Runnable.class);
        for (int i = 0; i < 16; i++) start.invoke(null, (Runnable) Waiting::run);
        Thread.sleep(2000);
        System.out.println("ready");
        Thread.sleep(Long.MAX_VALUE);
    }
}
