// A service and its clients in one JVM: orders come as text over HTTP, are read by a regular expression, summed
// by streams, and answered as HTML that a stylesheet makes of XML, packed. `java -cp DIR Service THREADS` serves
// with so many threads, to as many clients, until it is killed. Prints a line for every tenth answer.

import static java.nio.charset.StandardCharsets.UTF_8;
import static java.util.stream.Collectors.groupingBy;
import static java.util.stream.Collectors.mapping;
import static java.util.stream.Collectors.reducing;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.StringReader;
import java.math.BigDecimal;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.security.MessageDigest;
import java.time.DayOfWeek;
import java.time.LocalDate;
import java.util.Comparator;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentMap;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicLong;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.zip.GZIPInputStream;
import java.util.zip.GZIPOutputStream;
import javax.xml.parsers.DocumentBuilderFactory;
import javax.xml.transform.Templates;
import javax.xml.transform.TransformerFactory;
import javax.xml.transform.dom.DOMSource;
import javax.xml.transform.stream.StreamResult;
import javax.xml.transform.stream.StreamSource;
import org.w3c.dom.Document;
import org.w3c.dom.Element;

public class Service {
    record Order(String customer, String item, int count, BigDecimal price, LocalDate day) {
        BigDecimal sum() {
            return price.multiply(BigDecimal.valueOf(count));
        }
    }

    static final Pattern ORDER = Pattern.compile(
        "(?<customer>\\w+) orders (?<count>\\d+) (?<item>[a-z ]+) at (?<price>\\d+\\.\\d\\d) on (?<day>[-\\d]+)");
    static final String STYLESHEET = """
        <xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
          <xsl:template match="/report"><html><body><table>
            <xsl:for-each select="customer"><xsl:sort select="@name"/>
              <tr><td><xsl:value-of select="@name"/></td><xsl:apply-templates select="day"/></tr>
            </xsl:for-each>
          </table></body></html></xsl:template>
          <xsl:template match="day"><td title="{@of}">
            <xsl:value-of select="format-number(@sum, '#,##0.00')"/></td></xsl:template>
        </xsl:stylesheet>
        """;

    final Templates page;
    final AtomicLong answers = new AtomicLong();

    Service() throws Exception {
        page = TransformerFactory.newInstance().newTemplates(new StreamSource(new StringReader(STYLESHEET)));
    }

    static Order order(Matcher line) {
        return new Order(line.group("customer"), line.group("item").strip(), Integer.parseInt(line.group("count")),
            new BigDecimal(line.group("price")), LocalDate.parse(line.group("day")));
    }

    static Document report(List<Order> orders) throws Exception {
        Map<String, Map<DayOfWeek, BigDecimal>> sums = orders.stream()
            .filter(order -> !order.item().isEmpty())
            .sorted(Comparator.comparing(Order::day).thenComparing(Order::sum, Comparator.reverseOrder()))
            .collect(groupingBy(Order::customer, TreeMap::new, groupingBy(order -> order.day().getDayOfWeek(),
                TreeMap::new, mapping(Order::sum, reducing(BigDecimal.ZERO, BigDecimal::add)))));
        Document document = DocumentBuilderFactory.newInstance().newDocumentBuilder().newDocument();
        Element root = document.createElement("report");
        document.appendChild(root);
        sums.forEach((name, days) -> {
            Element customer = document.createElement("customer");
            customer.setAttribute("name", name);
            root.appendChild(customer);
            days.forEach((day, sum) -> {
                Element cell = document.createElement("day");
                cell.setAttribute("of", day.toString().toLowerCase());
                cell.setAttribute("sum", sum.toPlainString());
                customer.appendChild(cell);
            });
        });
        return document;
    }

    void answer(HttpExchange exchange) throws IOException {
        try (exchange; var lines = new BufferedReader(new InputStreamReader(exchange.getRequestBody(), UTF_8))) {
            List<Order> orders =
                lines.lines().map(ORDER::matcher).filter(Matcher::matches).map(Service::order).toList();
            var packed = new ByteArrayOutputStream();
            try (var out = new GZIPOutputStream(packed)) {
                page.newTransformer().transform(new DOMSource(report(orders)), new StreamResult(out));
            } catch (IOException | RuntimeException cause) {
                throw cause;
            } catch (Exception cause) {
                throw new IOException(cause);
            }
            exchange.sendResponseHeaders(200, packed.size());
            packed.writeTo(exchange.getResponseBody());
        }
    }

    static String orders(Random random) {
        String[] items = {"pears", "tin openers", "reams of paper", "lamps", "cubic metres of sand"};
        return IntStream.range(0, 300)
            .mapToObj(i -> String.format("customer%d orders %d %s at %.2f on %s", random.nextInt(40),
                1 + random.nextInt(20), items[random.nextInt(items.length)], 1 + random.nextInt(9999) / 100.0,
                LocalDate.of(2024, 1, 1).plusDays(random.nextInt(366))))
            .collect(Collectors.joining("\n"));
    }

    void ask(URI address, int number) {
        try {
            HttpClient client = HttpClient.newHttpClient();
            var random = new Random(number);
            ConcurrentMap<String, Integer> seen = new ConcurrentHashMap<>();
            while (true) {
                var request = HttpRequest.newBuilder(address)
                    .POST(HttpRequest.BodyPublishers.ofString(orders(random))).build();
                byte[] packed = client.send(request, HttpResponse.BodyHandlers.ofByteArray()).body();
                byte[] text = new GZIPInputStream(new ByteArrayInputStream(packed)).readAllBytes();
                byte[] digest = MessageDigest.getInstance("SHA-256").digest(text);
                seen.merge(HexFormat.of().formatHex(digest, 0, 2), 1, Integer::sum);
                if (answers.incrementAndGet() % 10 == 0) {
                    System.out.print("answers\n");
                    System.out.flush();
                }
            }
        } catch (Exception cause) {
            cause.printStackTrace();
            System.exit(1);
        }
    }

    public static void main(String[] args) throws Exception {
        // Else each answer waits 40 ms for an acknowledgement.
        System.setProperty("sun.net.httpserver.nodelay", "true");
        int threads = Integer.parseInt(args[0]);
        var service = new Service();
        var server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        server.createContext("/report", service::answer);
        server.setExecutor(Executors.newFixedThreadPool(threads));
        server.start();
        URI address = URI.create("http://127.0.0.1:" + server.getAddress().getPort() + "/report");
        for (int number = 0; number < threads; number++) {
            int client = number;
            new Thread(() -> service.ask(address, client), "client-" + number).start();
        }
    }
}
