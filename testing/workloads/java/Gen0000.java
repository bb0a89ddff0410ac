/** What Truth.Churn makes classes of, by changing the digits of its name. */
public class Gen0000 implements Runnable {
    @Override
    public void run() {
        for (int i = 0; i < 20; i++) {
            Truth.sink += inner(i);
        }
    }

    static int inner(int x) {
        return Truth.work(x, 300);
    }
}
