/** Lives for as many milliseconds as it is told, in code that is new all the time. */
public final class Brief {
    static int mixed(int x) {
        for (int i = 0; i < 50; i++) {
            x = x * 31 + (x >>> 7);
        }
        return x;
    }

    static void fill(java.util.Map<String, Integer> map, int n) {
        for (int i = 0; i < n; i++) {
            map.put("key " + i % 500, mixed(i));
        }
    }

    public static void main(String[] args) {
        long until = System.nanoTime() + Long.parseLong(args[0]) * 1_000_000;
        java.util.Map<String, Integer> map = new java.util.TreeMap<>();
        while (System.nanoTime() < until) {
            fill(map, 200);
        }
    }
}
