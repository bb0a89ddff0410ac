// Compiled code that leaves for the interpreter again and again: the frames that it becomes have an even and an
// odd number of words, so that the stack is aligned for the call that lays them out, or not.
//
//   java -XX:-Inline -XX:-OmitStackTraceInFastThrow -XX:PerMethodRecompilationCutoff=0
//        -XX:PerBytecodeRecompilationCutoff=0 -XX:PerMethodTrapLimit=2000000000
//        -XX:PerBytecodeTrapLimit=2000000000 -cp DIR Traps
//
// Every stack: main, then one and three or two and four.

public class Traps {
    public static volatile long sink;

    static int three(int[] array, int i) {
        int sum = 0;
        try {
            sum = array[i];
        } catch (ArrayIndexOutOfBoundsException thrown) {
            sum = 1;
        }
        return sum;
    }

    static int four(int[] array, int i) {
        int unused = i;
        int sum = 0;
        try {
            sum = array[i];
        } catch (ArrayIndexOutOfBoundsException thrown) {
            sum = 1;
        }
        return sum;
    }

    static int one(int[] array, int i) {
        return three(array, i) + 1;
    }

    static int two(int[] array, int i) {
        return four(array, i) + 1;
    }

    public static void main(String[] args) {
        int[] array = new int[4];
        for (int i = 0; ; i++) {
            if (i == 200000) System.out.println("ready");
            sink += one(array, i % 5) + two(array, i % 5);
        }
    }
}
