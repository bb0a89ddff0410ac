// A compiled caller that is deoptimised while its callee runs: the return address to it is that of its
// deoptimisation handler, and where it stands is in its frame.
//
//   java -XX:CompileCommand=dontinline,Deoptimised::callee -cp DIR Deoptimised
//
// Every stack: main, caller, callee, spin, once it has said `ready`. `caller` is compiled as long as One
// is the only Step there is; then `callee` loads another one.

public class Deoptimised {
    abstract static class Step {
        abstract int take(int x);
    }

    static class One extends Step {
        int take(int x) {
            return x * 31 + 7;
        }
    }

    static class Two extends Step {
        int take(int x) {
            return x - 1;
        }
    }

    public static volatile long sink;
    static volatile boolean isDue;

    static int caller(Step step, int n) {
        int sum = 0;
        for (int i = 0; i < n; i++) {
            sum += step.take(i);
        }
        callee();
        return sum + step.take(n);
    }

    static void callee() {
        if (isDue) {
            sink += new Two().take(1);
            System.out.println("ready");
            spin();
        }
    }

    static void spin() {
        for (long x = 1; ; x = x * 31 + 7) {
            if (x == 0) sink = x;
        }
    }

    public static void main(String[] args) {
        Step one = new One();
        for (int i = 0; ; i++) {
            isDue = i == 50000;
            sink += caller(one, 200);
        }
    }
}
