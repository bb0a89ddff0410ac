// javac, over and over: `java -cp DIR Compile OUT SOURCE…` compiles the sources into OUT until it is
// killed. Says `ready` before the first time, so that what is recorded begins with the interpreter, and on stderr a
// line whenever they are compiled.

import java.io.OutputStream;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import javax.tools.JavaCompiler;
import javax.tools.ToolProvider;

public class Compile {
    public static void main(String[] args) {
        JavaCompiler javac = ToolProvider.getSystemJavaCompiler();
        List<String> all = new ArrayList<>(Arrays.asList("-proc:none", "-d"));
        all.addAll(Arrays.asList(args));
        String[] arguments = all.toArray(new String[0]);
        System.out.print("ready\n");
        System.out.flush();
        OutputStream nowhere = new OutputStream() {
            @Override
            public void write(int b) { }
        };
        while (javac.run(null, nowhere, nowhere, arguments) == 0) {
            System.err.print("compiled\n");
        }
        System.exit(1);
    }
}
