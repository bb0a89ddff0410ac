// Compiled code whose neighbours are of other methods, inlined, that never or hardly run: a sample behind the last
// record of what runs is nearest to theirs.
public class Leaf {
    static volatile int sink;
    static final int[] numbers = new int[1024];

    static int never(int i) { return i + 1; }
    static int slow(int i) { sink = i; return never(i) + never(i + 1); }
    // Returns before what is inlined last.
    static int hot(int i) { if (i >= 0) return i * 31 + 7; return slow(i); }

    // Loops with a poll in each round: of the second one round is run.
    static int loop(long n) { int s = 0; for (long k = 0; k < n; k++) s += numbers[(int) (k & 1023)]; return s; }
    static int after(long n) { int s = 0; for (long k = 0; k < n; k++) s ^= numbers[(int) (k & 511)] + 3; return s; }
    static int loops(long n) { return loop(n) + after(1); }

    public static void main(String[] args) {
        System.out.println("ready");
        for (int i = 0; ; i++) {
            sink = hot(i & 0xffff);
            if ((i & 0xffff) == 0) sink = loops(200_000);
        }
    }
}
