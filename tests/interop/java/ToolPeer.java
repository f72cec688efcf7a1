// Apache Kafka's console tools, one after the other in one program: java -cp 'jars/*' ToolPeer.java
// A line is a class, what is to stand on its standard input after a "<", and arguments, percent-encoded; the answer is
// "ok STATUS <OUTPUT <ERRORS", encoded, too.
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.URLDecoder;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.kafka.common.utils.internals.Exit;

public class ToolPeer {
    static Integer status;                  // the first one that a tool has wanted to end with
    static List<Runnable> hooks = new ArrayList<>();

    static void end(int wanted) {
        status = status == null ? wanted : status;
        throw new RuntimeException("exit " + wanted);
    }

    public static void main(String[] arguments) throws Exception {
        InputStream in = System.in;
        PrintStream out = System.out;
        Exit.setExitProcedure((wanted, message) -> end(wanted));
        Exit.setHaltProcedure((wanted, message) -> end(wanted));
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(hook));
        BufferedReader lines = new BufferedReader(new InputStreamReader(in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            List<String> words = new ArrayList<>();
            for (String word : line.trim().split(" ", -1)) {
                words.add(URLDecoder.decode(word, StandardCharsets.UTF_8));
            }
            ByteArrayOutputStream output = new ByteArrayOutputStream(), errors = new ByteArrayOutputStream();
            PrintStream print = new PrintStream(output, true, StandardCharsets.UTF_8);
            PrintStream complain = new PrintStream(errors, true, StandardCharsets.UTF_8);
            System.setIn(new ByteArrayInputStream(words.get(1).substring(1).getBytes(StandardCharsets.UTF_8)));
            System.setOut(print);
            System.setErr(complain);
            status = null;
            hooks.clear();
            run(words.get(0), words.subList(2, words.size()).toArray(new String[0]), complain);
            hooks.forEach(Runnable::run);
            System.setOut(out);
            out.println("ok " + status + " <" + encoded(output) + " <" + encoded(errors));
            out.flush();
        }
    }

    static String encoded(ByteArrayOutputStream output) {
        return URLEncoder.encode(output.toString(StandardCharsets.UTF_8), StandardCharsets.UTF_8);
    }

    static void run(String name, String[] arguments, PrintStream print) {
        try {
            Class.forName(name).getMethod("main", String[].class).invoke(null, (Object) arguments);
            status = status == null ? 0 : status;
        } catch (ReflectiveOperationException error) {
            if (status == null) {
                error.printStackTrace(print);
                status = 1;
            }
        }
    }
}
