// A JVM that is busy in many ways and says beforehand who calls whom, and at which line.
//
//   java -cp DIR Truth [SECTION…]      all sections by default; runs until it is killed
//
// Before the first round is over every method of this file reports its own stack once for each place
// it is called from, as the VM sees it:
//
//   call CALLER LINE CALLEE            consecutive frames, both of this file
//   root METHOD                        nobody of this file calls it
//
// then `ready`. A profile is right if each pair of neighbours of this file among its frames was said,
// and each outermost one is a root. `times` and `has`, which are called by many, are not said. Classes
// Gen0000 to Gen9999 are loaded and dropped all the time: GenN.run calls GenN.inner, of the same N, and
// is called by Churn.roundR with R = N mod 8.

import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.lang.reflect.Method;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.stream.IntStream;
import java.util.zip.CRC32;
import java.util.zip.Deflater;

public class Truth {
    public static volatile long sink;
    static volatile boolean telling = true;
    static final Set<String> said = new ConcurrentSkipListSet<>();

    /** How often something is done: a few times are enough to tell. */
    static int times(int n) {
        return telling ? Math.min(n, 8) : n;
    }

    static boolean isOurs(StackTraceElement frame) {
        String name = frame.getClassName();
        return name.startsWith("Truth") || name.startsWith("Gen");
    }

    static String nameOf(StackTraceElement frame) {
        String name = frame.getClassName().replaceFirst("\\$\\$Lambda.*", "\\$\\$Lambda");
        return name + "." + frame.getMethodName();
    }

    /** Tells the stack of the caller, hidden frames too (-XX:+ShowHiddenFrames). */
    static void tell() {
        StackTraceElement callee = null;
        for (StackTraceElement frame : new Throwable().getStackTrace()) {
            if (!isOurs(frame) || nameOf(frame).equals("Truth.tell")) continue;
            if (callee != null) {
                said.add("call " + nameOf(frame) + " " + frame.getLineNumber() + " " + nameOf(callee));
            }
            callee = frame;
        }
        if (callee != null) said.add("root " + nameOf(callee));
    }

    /** Some work that no compiler can leave out. */
    public static int work(int seed, int n) {
        if (telling) tell();
        int x = seed | 1;
        for (int i = 0; i < n; i++) {
            x ^= x << 13;
            x ^= x >>> 17;
            x ^= x << 5;
        }
        return x;
    }

    static class Inline {
        static int a(int x) {
            if (telling) tell();
            int sum = 0;
            for (int i = 0, n = times(2000); i < n; i++) {
                sum += b(x + i);
            }
            return sum;
        }

        static int b(int x) {
            return c(x * 3)
                    + 1;
        }

        static int c(int x) {
            return d(
                    x ^ 0x55);
        }

        static int d(int x) {
            if (telling) tell();
            return (x * 31 + 7) % 1000 + x / 3;
        }
    }

    static class Recursion {
        static int down(int n) {
            if (n == 0) return bottom();
            return down(n - 1) + 1;
        }

        static int bottom() {
            return work(3, 20000);
        }
    }

    static class Intrinsics {
        static final byte[] data = new byte[1 << 16];
        static final byte[] copy = new byte[1 << 16];
        static final char[] text = new char[1 << 14];

        static int crc() {
            if (telling) tell();
            CRC32 crc = new CRC32();
            for (int i = 0, n = times(20); i < n; i++) crc.update(data, 0, data.length);
            return (int) crc.getValue();
        }

        static int copying() {
            if (telling) tell();
            for (int i = 0, n = times(60); i < n; i++) System.arraycopy(data, i, copy, 0, data.length - i);
            return copy[5];
        }

        static int hashing() {
            if (telling) tell();
            int sum = 0;
            for (int i = 0, n = times(20); i < n; i++) {
                text[0] = (char) ('a' + i);
                sum += new String(text).hashCode();
            }
            return sum;
        }

        static int digest() {
            if (telling) tell();
            try {
                return MessageDigest.getInstance("SHA-256").digest(data)[0];
            } catch (Exception e) {
                throw new RuntimeException(e);
            }
        }
    }

    static class Lambdas {
        static int total() {
            if (telling) tell();
            return IntStream.range(0, times(200)).map(i -> work(i, 50)).sum();
        }

        static int sorted() {
            Integer[] all = new Integer[times(500)];
            for (int i = 0; i < all.length; i++) all[i] = i * 7919 % 500;
            Arrays.sort(all, (a, b) -> compare(a, b));
            return all[0];
        }

        static int compare(int a, int b) {
            if (telling) tell();
            return Integer.compare(work(a, 2) & 0xff, work(b, 2) & 0xff);
        }
    }

    interface Shape {
        int area(int x);
    }

    static class Round implements Shape {
        public int area(int x) { return work(x, 20); }
    }

    static class Square implements Shape {
        public int area(int x) { return work(x + 1, 20); }
    }

    static class Flat implements Shape {
        public int area(int x) { return work(x + 2, 20); }
    }

    static class Odd implements Shape {
        public int area(int x) { return work(x + 3, 20); }
    }

    static class Megamorphic {
        static final Shape[] shapes = {new Round(), new Square(), new Flat(), new Odd()};

        static int sum() {
            if (telling) tell();
            int sum = 0;
            for (int i = 0, n = times(2000); i < n; i++) sum += shapes[i & 3].area(i);
            return sum;
        }
    }

    static class Exceptions {
        static int catching() {
            if (telling) tell();
            int sum = 0;
            for (int i = 0, n = times(100); i < n; i++) {
                try {
                    sum += throwing(i);
                } catch (IllegalStateException e) {
                    sum += e.getMessage().length();
                }
            }
            return sum;
        }

        static int throwing(int i) {
            int x = work(i, 20);
            if ((i & 3) == 0) throw new IllegalStateException("odd " + x);
            return x;
        }
    }

    static class Reflection {
        static Method method;

        static int invoking() {
            if (telling) tell();
            try {
                if (method == null) method = Reflection.class.getDeclaredMethod("target", int.class);
                int sum = 0;
                for (int i = 0, n = times(200); i < n; i++) sum += (Integer) method.invoke(null, i);
                return sum;
            } catch (ReflectiveOperationException e) {
                throw new RuntimeException(e);
            }
        }

        static int target(int x) {
            return work(x, 50);
        }
    }

    static class Native {
        static int deflating() {
            if (telling) tell();
            Deflater deflater = new Deflater(9);
            deflater.setInput(Intrinsics.data);
            deflater.finish();
            int n = deflater.deflate(Intrinsics.copy);
            deflater.end();
            return n;
        }
    }

    static class Locks {
        static synchronized int locked(int x) {
            return work(x, 200);
        }

        int own;

        synchronized int ownLocked(int x) {
            own += work(x, 100);
            return own;
        }

        static int locking() {
            if (telling) tell();
            Locks locks = new Locks();
            int sum = 0;
            for (int i = 0, n = times(100); i < n; i++) sum += locked(i) + locks.ownLocked(i);
            return sum;
        }
    }

    static class Osr {
        static int loop() {
            if (telling) tell();
            int x = 1;
            for (int i = 0, n = times(200000); i < n; i++) {
                x = x * 1103515245 + 12345;
                if ((x & 0xffff) == 7) x += i;
            }
            return x;
        }
    }

    static class Deopt {
        static Object[] things = {1, "two", 3.0, 'c', 5L};

        static int storm(int round) {
            if (telling) tell();
            int sum = 0;
            for (int i = 0, n = times(3000); i < n; i++) sum += kind(things[i % (1 + round % 5)], i);
            return sum;
        }

        static int kind(Object thing, int i) {
            if (thing instanceof Integer) return work(i, 4);
            if (thing instanceof String) return ((String) thing).length() + work(i, 5);
            if (thing instanceof Double) return ((Double) thing).intValue() + work(i, 6);
            return thing.hashCode() + work(i, 7);
        }
    }

    /** What classes are made of: the digits are replaced. */
    static class Churn {
        static byte[] template;
        static int next;

        static class Loader extends ClassLoader {
            Loader() {
                super(Truth.class.getClassLoader());
            }

            Class<?> define(String name, byte[] bytes) {
                return defineClass(name, bytes, 0, bytes.length);
            }
        }

        static byte[] named(String digits) {
            byte[] bytes = template.clone();
            byte[] from = "Gen0000".getBytes(), to = ("Gen" + digits).getBytes();
            for (int i = 0; i + from.length <= bytes.length; i++) {
                if (Arrays.equals(Arrays.copyOfRange(bytes, i, i + from.length), from)) {
                    System.arraycopy(to, 0, bytes, i, to.length);
                }
            }
            return bytes;
        }

        static int rounds() throws Exception {
            if (template == null) {
                try (InputStream in = Truth.class.getResourceAsStream("Gen0000.class")) {
                    ByteArrayOutputStream out = new ByteArrayOutputStream();
                    for (int b = in.read(); b >= 0; b = in.read()) out.write(b);
                    template = out.toByteArray();
                }
            }
            for (int i = 0; i < 40; i++) {
                next = (next + 1) % 10000;
                String digits = String.format("%04d", next);
                Class<?> made = new Loader().define("Gen" + digits, named(digits));
                Runnable gen = (Runnable) made.getDeclaredConstructor().newInstance();
                switch (next & 7) {
                    case 0: round0(gen); break;
                    case 1: round1(gen); break;
                    case 2: round2(gen); break;
                    case 3: round3(gen); break;
                    case 4: round4(gen); break;
                    case 5: round5(gen); break;
                    case 6: round6(gen); break;
                    default: round7(gen);
                }
            }
            System.gc();
            return next;
        }

        static void round0(Runnable gen) { gen.run(); }
        static void round1(Runnable gen) { gen.run(); }
        static void round2(Runnable gen) { gen.run(); }
        static void round3(Runnable gen) { gen.run(); }
        static void round4(Runnable gen) { gen.run(); }
        static void round5(Runnable gen) { gen.run(); }
        static void round6(Runnable gen) { gen.run(); }
        static void round7(Runnable gen) { gen.run(); }
    }

    static class Virtual {
        static int starting() throws Exception {
            if (telling) tell();
            Method start;
            try {
                start = Thread.class.getMethod("startVirtualThread", Runnable.class);
            } catch (NoSuchMethodException e) {
                return 0;
            }
            List<Thread> all = new ArrayList<>();
            for (int i = 0; i < 8; i++) {
                Runnable body = Virtual::body;
                all.add((Thread) start.invoke(null, body));
            }
            for (Thread thread : all) thread.join();
            return 1;
        }

        static void body() {
            for (int i = 0; i < 10; i++) sink += deep(20);
        }

        static int deep(int n) {
            if (n > 0) return deep(n - 1) + 1;
            int x = work(1, 20000);
            Thread.yield();
            return x + work(2, 20000);
        }
    }

    static boolean has(String[] sections, String name) {
        return sections.length == 0 || Arrays.asList(sections).contains(name);
    }

    static void round(String[] sections, int round) throws Exception {
        if (has(sections, "inline")) sink += Inline.a(round);
        if (has(sections, "recursion")) sink += Recursion.down(600);
        if (has(sections, "intrinsics")) {
            sink += Intrinsics.crc();
            sink += Intrinsics.copying();
            sink += Intrinsics.hashing();
            sink += Intrinsics.digest();
        }
        if (has(sections, "lambdas")) sink += Lambdas.total() + Lambdas.sorted();
        if (has(sections, "megamorphic")) sink += Megamorphic.sum();
        if (has(sections, "exceptions")) sink += Exceptions.catching();
        if (has(sections, "reflection")) sink += Reflection.invoking();
        if (has(sections, "native")) sink += Native.deflating();
        if (has(sections, "locks")) sink += Locks.locking();
        if (has(sections, "osr")) sink += Osr.loop();
        if (has(sections, "deopt")) sink += Deopt.storm(round);
        if (has(sections, "churn")) sink += Churn.rounds();
        if (has(sections, "virtual")) sink += Virtual.starting();
    }

    public static void main(String[] sections) throws Exception {
        for (int i = 0; i < Intrinsics.data.length; i++) {
            Intrinsics.data[i] = (byte) (i * 7 ^ i >> 5);
        }
        Arrays.fill(Intrinsics.text, 'x');
        // Deopt's kinds come one after the other.
        for (int i = 0; ; i++) {
            if (i == 5) {
                telling = false;
                StringBuilder all = new StringBuilder();
                for (String line : new TreeSet<>(said)) all.append(line).append('\n');
                System.out.print(all.append("ready\n"));
                System.out.flush();
            }
            round(sections, i);
        }
    }
}
