// A JVM with many hot methods: N of them in classes of 100, each run as often as the others.
//
//   java -cp DIR ManyMethods N [LOOPS]      prints `ready`, then runs until it is killed
//
// The classes are written into memory by this program, so that no compiler is needed: each has
// methods m00 to m99, which call `ManyMethods.spin`, and `run`, which calls them all. Class number C
// is `many/C<five digits>`, so that a stack is right if all methods of `many` in it are of one class
// and `run` calls `mNN`.

import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;

public class ManyMethods extends ClassLoader {
    static final int METHODS = 100;
    public static volatile int sink;
    static int loops = 2000;

    public static int spin(int seed) {
        int x = seed | 1;
        for (int i = 0; i < loops; i++) {
            x ^= x << 13;
            x ^= x >>> 17;
            x ^= x << 5;
        }
        return x;
    }

    /** A class file: JVMS 4.1. Constants 1 to 12 first, then two for each method's reference. */
    static byte[] classFile(String name) throws IOException {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        DataOutputStream out = new DataOutputStream(bytes);
        out.writeInt(0xcafebabe);
        out.writeShort(0);
        out.writeShort(50); // as of Java 6: no stack maps are needed
        int first = 16;
        out.writeShort(first + 3 * METHODS);
        utf8(out, name); // 1
        out.writeByte(7); out.writeShort(1); // 2: this class
        utf8(out, "java/lang/Object"); // 3
        out.writeByte(7); out.writeShort(3); // 4
        utf8(out, "Code"); // 5
        utf8(out, "run"); // 6
        utf8(out, "()V"); // 7
        utf8(out, "(I)I"); // 8
        utf8(out, "ManyMethods"); // 9
        out.writeByte(7); out.writeShort(9); // 10
        utf8(out, "spin"); // 11
        out.writeByte(12); out.writeShort(11); out.writeShort(8); // 12
        out.writeByte(10); out.writeShort(10); out.writeShort(12); // 13: ManyMethods.spin
        utf8(out, "java/lang/Runnable"); // 14
        utf8(out, "unused"); // 15
        for (int i = 0; i < METHODS; i++) {
            utf8(out, String.format("m%02d", i));
            out.writeByte(12); out.writeShort(first + 3 * i); out.writeShort(8);
            out.writeByte(10); out.writeShort(2); out.writeShort(first + 3 * i + 1);
        }
        out.writeShort(0x21); // public, super
        out.writeShort(2);
        out.writeShort(4);
        out.writeShort(0);
        out.writeShort(0);
        out.writeShort(METHODS + 1);
        for (int i = 0; i < METHODS; i++) {
            // iload_0; invokestatic spin; ireturn
            method(out, first + 3 * i, 8, 1, new byte[] {0x1a, (byte) 0xb8, 0, 13, (byte) 0xac});
        }
        ByteArrayOutputStream code = new ByteArrayOutputStream();
        for (int i = 0; i < METHODS; i++) {
            int reference = first + 3 * i + 2;
            // bipush i; invokestatic mNN; pop
            code.write(0x10); code.write(i);
            code.write(0xb8); code.write(reference >> 8); code.write(reference);
            code.write(0x57);
        }
        code.write(0xb1); // return
        method(out, 6, 7, 0, code.toByteArray());
        out.writeShort(0);
        return bytes.toByteArray();
    }

    static void utf8(DataOutputStream out, String text) throws IOException {
        out.writeByte(1);
        out.writeUTF(text);
    }

    static void method(DataOutputStream out, int name, int type, int locals, byte[] code)
            throws IOException {
        out.writeShort(9); // public, static
        out.writeShort(name);
        out.writeShort(type);
        out.writeShort(1);
        out.writeShort(5);
        out.writeInt(12 + code.length);
        out.writeShort(2);
        out.writeShort(locals);
        out.writeInt(code.length);
        out.write(code);
        out.writeShort(0);
        out.writeShort(0);
    }

    public static void main(String[] args) throws Throwable {
        int classes = Integer.parseInt(args[0]) / METHODS;
        if (args.length > 1) loops = Integer.parseInt(args[1]);
        ManyMethods loader = new ManyMethods();
        List<java.lang.invoke.MethodHandle> runs = new ArrayList<>();
        java.lang.invoke.MethodHandles.Lookup lookup = java.lang.invoke.MethodHandles.lookup();
        for (int i = 0; i < classes; i++) {
            String name = String.format("many/C%05d", i);
            byte[] bytes = classFile(name);
            Class<?> made = loader.defineClass(name.replace('/', '.'), bytes, 0, bytes.length);
            runs.add(lookup.findStatic(made, "run",
                    java.lang.invoke.MethodType.methodType(void.class)));
        }
        System.out.println("ready");
        System.out.flush();
        while (true) {
            for (java.lang.invoke.MethodHandle run : runs) run.invokeExact();
        }
    }
}
