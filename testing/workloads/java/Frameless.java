// C1's code in the stubs that have no frame of their own: slow_subtype_check is called with what it keeps
// pushed, unwind_exception and forward_exception are jumped to when the frame that threw is gone. C2's jumps
// so to rethrow, whose frame does not stand then, and hands exceptions to ExceptionBlob with what threw in rdx.
//
//   java -XX:TieredStopAtLevel=1 -XX:-Inline -XX:CompileCommand=exclude,Frameless::interpreted -cp DIR Frameless
//
// Calls: main to work; work to noise, casts, outer, passes and asks; noise to noise;
// passes to interpreted; casts to cast; outer to middle; middle to inner.
// `main` and `casts` never catch an exception, so that none of these stubs is right behind them.
// `noise` leaves return addresses below the stack of all that is called after it: who looks at a wrong place
// finds them.

public class Frameless {
    interface A {}
    interface B {}
    interface C {}
    static class One implements A, B, C {}
    static class Two implements C, B, A {}

    static final Exception THROWN = new Exception();
    static final Object[] OBJECTS = {new One(), new Two()};
    public static volatile long sink;

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

    static int interpreted(int x) throws Exception {
        if (x != 0) throw THROWN;
        return x;
    }

    static int passes(int x) throws Exception {
        return interpreted(x) + 1;
    }

    static int asks(Object object) {
        try {
            return java.lang.reflect.Array.getLength(object);
        } catch (IllegalArgumentException thrown) {
            return 1;
        }
    }

    static long noise(int depth, long x) {
        return depth == 0 ? x : noise(depth - 1, x * 31 + depth) + 1;
    }

    static void work() {
        casts();
        for (int i = 0; i < 20; i++) {
            sink += noise(18 + i % 4, i);
            try {
                sink += outer(3);
            } catch (Exception thrown) {
                sink++;
            }
            try {
                sink += passes(3);
            } catch (Exception thrown) {
                sink++;
            }
            sink += asks("no array");
        }
    }

    public static void main(String[] args) {
        for (int i = 0; ; i++) {
            if (i == 3000) System.out.println("ready");
            work();
        }
    }
}
