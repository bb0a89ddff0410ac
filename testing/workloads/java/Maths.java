// Functions that JDK 8 computes on the x87 (pow, exp, log, sin, tan), and remainders, for which C2 does in
// later versions: their operands, the control word and, where the C library is asked, all registers are
// pushed below the frame of the method, of a stub or of the interpreter's entry.
//
//   java -XX:-TieredCompilation -XX:-Inline -cp DIR Maths
//
// Calls: main to round; round to all others; deep to deep. What `deep` leaves below the stack stands where
// those frames have nothing of their own.

public class Maths {
    public static volatile double sink;

    static double pows(int n) {
        double sum = 0;
        for (int i = 0; i < n; i++) sum += Math.pow(1.0 + i * 0.01, 3.3);
        return sum;
    }

    static double exps(int n) {
        double sum = 0;
        for (int i = 0; i < n; i++) sum += Math.exp(i * 0.01);
        return sum;
    }

    static double logs(int n) {
        double sum = 0;
        for (int i = 0; i < n; i++) sum += Math.log(1.0 + i * 0.7) + Math.log10(2.0 + i);
        return sum;
    }

    static double sines(int n) {
        double sum = 0;
        for (int i = 0; i < n; i++) sum += Math.sin(i * 0.37) + Math.cos(i * 0.11);
        return sum;
    }

    static double tans(int n) {
        double sum = 0;
        for (int i = 0; i < n; i++) sum += Math.tan(i * 0.37);
        return sum;
    }

    /** Too large for the x87. */
    static double fars(int n) {
        double sum = 0;
        for (int i = 0; i < n; i++) sum += Math.sin(i * 1e5) + Math.tan(i * 1e6);
        return sum;
    }

    static double rests(int n) {
        double sum = 0;
        for (int i = 0; i < n; i++) sum += (1e9 + i) % (7.3 + i);
        return sum;
    }

    static float shorts(int n) {
        float sum = 0;
        for (int i = 0; i < n; i++) sum += (1e9f + i) % (7.3f + i);
        return sum;
    }

    static int deep(int n) {
        return n == 0 ? 1 : deep(n - 1) + 1;
    }

    static void round() {
        sink += deep(40) + pows(300) + deep(39) + exps(300) + deep(38) + logs(300);
        sink += deep(37) + sines(300) + deep(36) + tans(300) + deep(35) + fars(100);
        sink += deep(34) + rests(300) + deep(33) + shorts(300);
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
