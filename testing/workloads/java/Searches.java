// Searches for one string in another, which C2 puts in place of String.indexOf: they keep what is looked for,
// and their frame's stack pointer, below the frame.
//
//   java -XX:-TieredCompilation -XX:-Inline -cp DIR Searches
//
// Calls: main to round; round to finds, constants, shorts, wide and deep; deep to deep; finds, constants,
// shorts and wide to the JDK's methods. What `deep` leaves below the stack stands where those frames
// have nothing of their own.

public class Searches {
    static final String TEXT = "the quick brown fox jumps over the lazy dog and the hedgehog and the needle";
    static final String WIDE = TEXT + "\u0416";
    static final String[] LONG = {"needle", "hedgehog and", "nothing", "dog", "over the lazy dog and the"};
    static final String[] SHORT = {"fox", "quick", "needle", "xyz", "ab"};
    public static volatile int sink;

    static int finds(int n) {
        int sum = 0;
        for (int i = 0; i < n; i++) sum += TEXT.indexOf(LONG[i % LONG.length]);
        return sum;
    }

    static int constants(int n) {
        int sum = 0;
        for (int i = 0; i < n; i++) sum += LONG[i % LONG.length].indexOf("dle") + TEXT.indexOf("hedgehog and the n");
        return sum;
    }

    static int shorts(int n) {
        int sum = 0;
        for (int i = 0; i < n; i++) sum += SHORT[i % SHORT.length].indexOf(SHORT[(i + 1) % SHORT.length]);
        return sum;
    }

    static int wide(int n) {
        int sum = 0;
        for (int i = 0; i < n; i++) sum += WIDE.indexOf(LONG[i % LONG.length]);
        return sum;
    }

    static int deep(int n) {
        return n == 0 ? SHORT.length : deep(n - 1) + 1;
    }

    static void round() {
        sink += deep(40) + finds(300) + deep(39) + constants(300) + deep(38) + shorts(300) + deep(37) + wide(300);
    }

    public static void main(String[] args) {
        long start = System.nanoTime();
        boolean isReady = false;
        while (true) {
            round();
            if (!isReady && System.nanoTime() - start > 4_000_000_000L) {
                isReady = true;
                System.out.print("ready\n");
                System.out.flush();
            }
        }
    }
}
