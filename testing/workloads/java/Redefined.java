// Classes of one shape that are redefined again and again: what the methods of one were made of is given to
// another's.
//
//   jar cfm redefined.jar MANIFEST -C DIR . && java -javaagent:redefined.jar -cp DIR Redefined
//
// MANIFEST: `Premain-Class: Redefined` and `Can-Redefine-Classes: true`. Each class calls its own methods alone.

import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.lang.instrument.ClassDefinition;
import java.lang.instrument.Instrumentation;
import java.util.Random;

public class Redefined {
    static class Aa {
        static void alpha() { for (int i = 0; i < 300; i++) sink += alphain(i); }
        static long alphain(int i) { long h = i; for (int j = 0; j < 20; j++) h = h * 31 + alphaleaf(j); return h; }
        static long alphaleaf(int j) { return j * 7L; }
    }

    static class Bb {
        static void bravo() { for (int i = 0; i < 300; i++) sink += bravoin(i); }
        static long bravoin(int i) { long h = i; for (int j = 0; j < 20; j++) h = h * 31 + bravoleaf(j); return h; }
        static long bravoleaf(int j) { return j * 7L; }
    }

    static class Cc {
        static void delta() { for (int i = 0; i < 300; i++) sink += deltain(i); }
        static long deltain(int i) { long h = i; for (int j = 0; j < 20; j++) h = h * 31 + deltaleaf(j); return h; }
        static long deltaleaf(int j) { return j * 7L; }
    }

    static Instrumentation instrumentation;
    static volatile long sink;

    public static void premain(String args, Instrumentation given) {
        instrumentation = given;
    }

    public static void main(String[] args) throws Exception {
        Class<?>[] classes = {Aa.class, Bb.class, Cc.class};
        byte[][] bytes = new byte[classes.length][];
        for (int i = 0; i < classes.length; i++) {
            ByteArrayOutputStream all = new ByteArrayOutputStream();
            try (InputStream in = Redefined.class.getResourceAsStream(classes[i].getName() + ".class")) {
                for (int b = in.read(); b >= 0; b = in.read()) all.write(b);
            }
            bytes[i] = all.toByteArray();
        }
        Thread worker = new Thread(() -> {
            while (true) {
                Aa.alpha();
                Bb.bravo();
                Cc.delta();
            }
        });
        worker.setDaemon(true);
        worker.start();
        System.out.println("ready");
        Random random = new Random(1);
        for (int n = 0; ; n++) {
            int i = random.nextInt(classes.length);
            instrumentation.redefineClasses(new ClassDefinition(classes[i], bytes[i]));
            Thread.sleep(5);
            if (n % 7 == 0) System.gc();
        }
    }
}
