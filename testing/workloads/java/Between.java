// Places at which a frame does not stand where its size says: behind the end of a native method's, behind a
// stub's end, in an adapter, and where the caller had pushed something when it called a stub.
//
//   java -XX:-Inline -XX:CompileCommand=exclude,Between::interpreted -cp DIR Between
//
// Calls: main to work; work to noise, natives, casts, outer and adapters; noise to noise; natives to
// Runtime.totalMemory and Array.getLength; casts to cast; outer to middle; middle to inner; adapters to interpreted.
// `noise` leaves return addresses below the stack of all that is called after it: who looks at a wrong place
// finds them.

public class Between {
    interface A {}
    interface B {}
    interface C {}
    static class One implements A, B, C {}
    static class Two implements C, B, A {}

    static final Exception THROWN = new Exception();
    static final Object[] OBJECTS = {new One(), new Two()};
    static final Runtime RUNTIME = Runtime.getRuntime();
    public static volatile long sink;

    static long noise(int depth, long x) {
        return depth == 0 ? x : noise(depth - 1, x * 31 + depth) + 1;
    }

    static void natives() {
        for (int i = 0; i < 100; i++) {
            sink += RUNTIME.totalMemory();
            try {
                sink += java.lang.reflect.Array.getLength(THROWN);
            } catch (IllegalArgumentException thrown) {
                sink++;
            }
        }
    }

    static int cast(Object object) {
        A a = (A) object;
        B b = (B) object;
        return (object instanceof C ? 1 : 0) + (a == b ? 1 : 0);
    }

    static void casts() {
        for (int i = 0; i < 1000; i++) {
            sink += cast(OBJECTS[i & 1]);
        }
    }

    static int inner(int x) throws Exception {
        if (x != 0) throw THROWN;
        return x;
    }

    static int middle(int x) throws Exception {
        return inner(x) + 1;
    }

    static int outer(int x) throws Exception {
        return middle(x) + 1;
    }

    static long interpreted(long a, int b, Object c, double d, long e, long f, long g, long h) {
        return a + b + h;
    }

    static void adapters() {
        for (int i = 0; i < 1000; i++) {
            sink += interpreted(i, i, THROWN, i, i, i, i, i);
        }
    }

    static void work(int n) {
        sink += noise(20, n);
        natives();
        sink += noise(19, n);
        casts();
        for (int i = 0; i < 20; i++) {
            try {
                sink += outer(3);
            } catch (Exception thrown) {
                sink++;
            }
        }
        sink += noise(18, n);
        adapters();
    }

    public static void main(String[] args) {
        for (int i = 0; ; i++) {
            if (i == 1000) System.out.println("ready");
            work(i);
        }
    }
}
