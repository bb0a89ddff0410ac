// Methods that Graal compiles and that neither call nor poll: their frames have the caller's frame pointer in
// any slot, in a register, or not at all. Their callers are the interpreter's, which are led by it.
//
//   java -XX:+UseJVMCICompiler ... -XX:CompileCommand=exclude,Unsaved::callsSpin (callsSpill, callsSmall,
//   round) -cp DIR Unsaved
//
// Calls: main to round; round to callsSpin, callsSpill and callsSmall; callsSpin to deep and spin;
// callsSpill to deep and spill; callsSmall to small; deep to deep. What `deep` leaves below the stack stands
// where those frames have nothing of their own.

public class Unsaved {
    static final int[] DATA = new int[64];
    public static volatile int sink;

    static int spin(int n) {
        int x = 1;
        for (int i = 0; i < n; i++) x = x * 31 + (x >>> 7) + i;
        return x;
    }

    /** More than there are registers. */
    static int spill(int n) {
        int a = 1, b = 2, c = 3, d = 4, e = 5, f = 6, g = 7;
        int h = 8, i = 9, j = 10, k = 11, l = 12, m = 13, o = 14;
        for (int at = 0; at < n; at++) {
            a += b * at; b ^= c + at; c += d * 3; d ^= e; e += f; f ^= g + at; g += h;
            h ^= i; i += j; j ^= k; k += l; l ^= m; m += o; o ^= a;
        }
        return a + b + c + d + e + f + g + h + i + j + k + l + m + o;
    }

    static int small(int i) {
        return DATA[i & 63] * 31 + i;
    }

    static int deep(int n) {
        return n == 0 ? DATA[3] : deep(n - 1) + 1;
    }

    static int callsSpin(int n) {
        return deep(n & 7) + spin(n);
    }

    static int callsSpill(int n) {
        return deep(n & 7) + spill(n);
    }

    static int callsSmall(int n) {
        int sum = 0;
        for (int i = 0; i < n; i++) sum += small(i);
        return sum;
    }

    static void round() {
        sink += callsSpin(3000) + callsSpill(600) + callsSmall(200);
    }

    public static void main(String[] args) {
        long start = System.nanoTime();
        boolean isReady = false;
        while (true) {
            round();
            // Graal is slow as long as nothing of it is compiled itself.
            if (!isReady && System.nanoTime() - start > 12_000_000_000L) {
                isReady = true;
                System.out.print("ready\n");
                System.out.flush();
            }
        }
    }
}
