// RabbitMQ's Java client against a node: one scenario per line of the standard input, "NAME ARGUMENT…".
// Started by tests/interop/test_amqp_java.py through peer_process.py. Arguments of the program: the port.

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.AlreadyClosedException;
import com.rabbitmq.client.BuiltinExchangeType;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.DefaultConsumer;
import com.rabbitmq.client.Envelope;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.Recoverable;
import com.rabbitmq.client.RecoveryListener;
import com.rabbitmq.client.RpcClient;
import com.rabbitmq.client.RpcClientParams;
import com.rabbitmq.client.ShutdownSignalException;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.math.BigDecimal;
import java.util.Arrays;
import java.util.Collections;
import java.util.Date;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;

public class AmqpPeer {
    static final int WAIT_S = 30;
    static int port;
    static BufferedReader input;

    interface Work { void run() throws Exception; }

    public static void main(String[] arguments) throws Exception {
        ((ch.qos.logback.classic.Logger) org.slf4j.LoggerFactory.getLogger("ROOT")).setLevel(ch.qos.logback.classic.Level.ERROR);
        port = Integer.parseInt(arguments[0]);
        input = new BufferedReader(new InputStreamReader(System.in));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            String[] words = line.trim().split(" ");
            try {
                switch (words[0]) {
                    case "values": values(); break;
                    case "errors": errors(); break;
                    case "confirms": confirms(); break;
                    case "consumers": consumers(); break;
                    case "routing": routing(); break;
                    case "queues": queues(); break;
                    case "rpc": rpc(); break;
                    case "transactions": transactions(); break;
                    case "spring": spring(Integer.parseInt(words[1])); break;
                    case "recovery": recovery(Integer.parseInt(words[1])); break;
                    default: throw new IllegalArgumentException(words[0]);
                }
                say("ok " + line);
            } catch (Throwable error) {
                error.printStackTrace(System.out);
                say("failed " + line);
            }
        }
    }

    static void say(String text) {
        System.out.println(text);
        System.out.flush();
    }

    static ConnectionFactory factory() {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setHost("127.0.0.1");
        factory.setPort(port);
        factory.setNetworkRecoveryInterval(200);
        factory.setConnectionTimeout(5_000);
        return factory;
    }

    static void check(boolean holds, String what) {
        if (!holds) throw new AssertionError(what);
    }

    static void same(Object wanted, Object found) {
        boolean equal = wanted instanceof byte[] ? Arrays.equals((byte[]) wanted, (byte[]) found) : String.valueOf(wanted).equals(String.valueOf(found));
        check(equal, "wanted " + wanted + ", found " + found);
    }

    static GetResponse get(Channel channel, String queue) throws Exception {
        for (int count = 0; count < WAIT_S * 50; count++) {
            GetResponse found = channel.basicGet(queue, true);
            if (found != null) return found;
            Thread.sleep(20);
        }
        throw new AssertionError("nothing in " + queue);
    }

    static String text(GetResponse response) {
        return new String(response.getBody());
    }

    /** The reply code with which the broker closes a channel. */
    static void refused(Connection connection, int code, String says, WorkOn work) throws Exception {
        Channel channel = connection.createChannel();
        try {
            work.run(channel);
            channel.waitForConfirms(1);
        } catch (Exception error) {
            Throwable cause = error instanceof ShutdownSignalException ? error : error.getCause();
            check(cause instanceof ShutdownSignalException, "refused by " + error);
            Object reason = ((ShutdownSignalException) cause).getReason();
            check(reason instanceof AMQP.Channel.Close, "closed by " + reason);
            same(code, ((AMQP.Channel.Close) reason).getReplyCode());
            check(((AMQP.Channel.Close) reason).getReplyText().contains(says), reason.toString());
            return;
        }
        throw new AssertionError("not refused with " + code);
    }

    interface WorkOn { void run(Channel channel) throws Exception; }

    // -- scenarios -------------------------------------------------------------------------------------------------

    /** Every type that this client writes into a header table comes back as it was. */
    static void values() throws Exception {
        try (Connection connection = factory().newConnection("values"); Channel channel = connection.createChannel()) {
            channel.queueDeclare("java-values", true, false, false, null);
            channel.queuePurge("java-values");
            Map<String, Object> headers = new HashMap<>();
            headers.put("integer", 7);
            headers.put("long", 1L << 40);
            headers.put("short", (short) 3);
            headers.put("byte", (byte) -1);
            headers.put("float", 1.5f);
            headers.put("double", 2.25);
            headers.put("decimal", new BigDecimal("12.34"));
            headers.put("date", new Date(1_700_000_000_000L));
            headers.put("true", true);
            headers.put("null", null);
            headers.put("list", Arrays.asList(1, "two", Arrays.asList(3)));
            headers.put("table", Collections.singletonMap("inner", Collections.singletonMap("x", 1)));
            AMQP.BasicProperties properties = new AMQP.BasicProperties.Builder().contentType("text/plain")
                .contentEncoding("utf-8").headers(headers).deliveryMode(2).priority(4).correlationId("c").replyTo("r")
                .expiration("600000").messageId("m").timestamp(new Date(1_700_000_000_000L)).type("t").userId("guest")
                .appId("a").clusterId("k").build();
            byte[] body = new byte[300_000];                    // more frames than one
            body[299_999] = 9;
            channel.basicPublish("", "java-values", properties, body);
            GetResponse found = get(channel, "java-values");
            Map<String, Object> back = found.getProps().getHeaders();
            same(new TreeSet<>(headers.keySet()), new TreeSet<>(back.keySet()));
            for (String name : headers.keySet()) {
                Object value = back.get(name);
                same(headers.get(name), value);
                if (headers.get(name) instanceof Number) same(headers.get(name).getClass(), value.getClass());
            }
            same(body, found.getBody());
            AMQP.BasicProperties other = found.getProps();
            same(properties.getContentType() + properties.getType() + properties.getAppId() + properties.getClusterId(),
                 other.getContentType() + other.getType() + other.getAppId() + other.getClusterId());
            same(properties.getTimestamp(), other.getTimestamp());
            same(properties.getExpiration(), other.getExpiration());
            same(properties.getPriority(), other.getPriority());
        }
    }

    static void errors() throws Exception {
        try (Connection connection = factory().newConnection()) {
            refused(connection, 404, "no queue 'java-none' in vhost '/'", channel -> channel.queueDeclarePassive("java-none"));
            refused(connection, 404, "no exchange 'java-none' in vhost '/'", channel -> channel.exchangeDeclarePassive("java-none"));
            refused(connection, 404, "no exchange 'java-none'", channel -> {
                channel.confirmSelect();
                channel.basicPublish("java-none", "k", null, new byte[1]);
                channel.waitForConfirms(10_000);
            });
            refused(connection, 406, "inequivalent arg 'durable' for queue 'java-same'", channel -> {
                channel.queueDeclare("java-same", true, false, false, null);
                channel.queueDeclare("java-same", false, false, false, null);
            });
            refused(connection, 406, "inequivalent arg 'x-message-ttl'", channel ->
                channel.queueDeclare("java-same", true, false, false, Collections.singletonMap("x-message-ttl", 5)));
            refused(connection, 406, "inequivalent arg 'type' for exchange 'java-same'", channel -> {
                channel.exchangeDeclare("java-same", "direct");
                channel.exchangeDeclare("java-same", "fanout");
            });
            refused(connection, 406, "unknown delivery tag 7", channel -> {
                channel.basicAck(7, false);
                channel.queueDeclarePassive("java-same");
            });
            refused(connection, 403, "operation not permitted on the default exchange", channel ->
                channel.queueBind("java-same", "", "k"));
            refused(connection, 406, "user_id property set to 'eve'", channel -> {
                channel.confirmSelect();
                channel.basicPublish("", "java-same", new AMQP.BasicProperties.Builder().userId("eve").build(), new byte[1]);
                channel.waitForConfirms(10_000);
            });
            try (Connection other = factory().newConnection(); Channel owner = other.createChannel()) {
                owner.queueDeclare("java-mine", false, true, false, null);
                refused(connection, 405, "cannot obtain exclusive access to locked queue 'java-mine'", channel ->
                    channel.queueDeclarePassive("java-mine"));
            }
        }
    }

    static void confirms() throws Exception {
        try (Connection connection = factory().newConnection(); Channel channel = connection.createChannel()) {
            channel.queueDeclare("java-confirms", true, false, false, null);
            channel.queuePurge("java-confirms");
            channel.confirmSelect();
            List<String> order = Collections.synchronizedList(new java.util.ArrayList<>());
            ConcurrentSkipListSet<Long> open = new ConcurrentSkipListSet<>();
            channel.addReturnListener(returned -> order.add("return " + returned.getReplyCode() + " " + returned.getReplyText()));
            channel.addConfirmListener((tag, multiple) -> {
                order.add("ack");
                if (multiple) open.headSet(tag, true).clear(); else open.remove(tag);
            }, (tag, multiple) -> order.add("nack"));
            channel.basicPublish("", "java-nowhere", true, null, new byte[1]);
            check(channel.waitForConfirms(WAIT_S * 1000), "confirmed");
            same(Arrays.asList("return 312 NO_ROUTE", "ack"), order);
            for (int number = 0; number < 5_000; number++) {
                open.add(channel.getNextPublishSeqNo());
                channel.basicPublish("", "java-confirms", new AMQP.BasicProperties.Builder().deliveryMode(2).build(), ("m" + number).getBytes());
            }
            check(channel.waitForConfirms(WAIT_S * 1000), "all of them are acked");
            for (int count = 0; count < 100 && !open.isEmpty(); count++) Thread.sleep(20);     // listeners run behind
            check(open.isEmpty(), "open: " + open.size());
            same(5_000, channel.messageCount("java-confirms"));
        }
    }

    static void consumers() throws Exception {
        try (Connection connection = factory().newConnection(); Channel channel = connection.createChannel()) {
            String queue = channel.queueDeclare().getQueue();
            check(queue.startsWith("amq.gen-"), queue);
            channel.basicQos(3);
            BlockingQueue<Envelope> found = new LinkedBlockingQueue<>();
            CountDownLatch cancelled = new CountDownLatch(1);
            String tag = channel.basicConsume(queue, false, new DefaultConsumer(channel) {
                @Override public void handleDelivery(String consumerTag, Envelope envelope, AMQP.BasicProperties properties, byte[] body) {
                    found.add(envelope);
                }
                @Override public void handleCancel(String consumerTag) { cancelled.countDown(); }
            });
            check(tag.startsWith("amq.ctag-"), tag);
            for (int number = 0; number < 10; number++) channel.basicPublish("", queue, null, new byte[] {(byte) number});
            Envelope first = found.poll(WAIT_S, TimeUnit.SECONDS);
            found.poll(WAIT_S, TimeUnit.SECONDS);
            Envelope third = found.poll(WAIT_S, TimeUnit.SECONDS);
            check(found.poll(200, TimeUnit.MILLISECONDS) == null, "the prefetch is 3");
            channel.basicNack(first.getDeliveryTag(), false, true);
            Envelope again = found.poll(WAIT_S, TimeUnit.SECONDS);
            check(again.isRedeliver(), "marked");
            channel.basicAck(third.getDeliveryTag(), true);
            channel.basicReject(again.getDeliveryTag(), false);
            for (int number = 0; number < 3; number++) check(!found.poll(WAIT_S, TimeUnit.SECONDS).isRedeliver(), "new");
            same(1, channel.consumerCount(queue));
            try (Channel other = connection.createChannel()) {
                other.queueDelete(queue);
            }
            check(cancelled.await(WAIT_S, TimeUnit.SECONDS), "told of the deletion");
        }
    }

    static void routing() throws Exception {
        try (Connection connection = factory().newConnection(); Channel channel = connection.createChannel()) {
            for (String name : new String[] {"a", "b", "c"}) {
                channel.queueDeclare("java-" + name, true, false, false, null);
                channel.queuePurge("java-" + name);
            }
            channel.exchangeDeclare("java-topic", BuiltinExchangeType.TOPIC, true);
            channel.exchangeDeclare("java-headers", BuiltinExchangeType.HEADERS, true);
            channel.exchangeDeclare("java-rest", BuiltinExchangeType.FANOUT, true);
            channel.exchangeDeclare("java-first", BuiltinExchangeType.DIRECT, true, false, Collections.singletonMap("alternate-exchange", "java-rest"));
            channel.exchangeBind("java-topic", "java-first", "over");
            channel.queueBind("java-a", "java-topic", "#.end");
            channel.queueBind("java-b", "java-rest", "");
            Map<String, Object> any = new HashMap<>();
            any.put("x-match", "any");
            any.put("one", 1);
            any.put("two", "2");
            channel.queueBind("java-c", "java-headers", "", any);
            channel.confirmSelect();
            channel.basicPublish("java-topic", "end", null, "1".getBytes());
            channel.basicPublish("java-topic", "x.y.end", null, "2".getBytes());
            channel.basicPublish("java-topic", "x.y", null, "no".getBytes());
            channel.basicPublish("java-first", "other", null, "3".getBytes());
            channel.basicPublish("java-headers", "", new AMQP.BasicProperties.Builder().headers(Collections.singletonMap("two", "2")).build(), "4".getBytes());
            channel.basicPublish("java-headers", "", new AMQP.BasicProperties.Builder().headers(Collections.singletonMap("two", "3")).build(), "no".getBytes());
            check(channel.waitForConfirms(WAIT_S * 1000), "confirmed");
            same("1", text(get(channel, "java-a")));
            same("2", text(get(channel, "java-a")));
            same("3", text(get(channel, "java-b")));
            same("4", text(get(channel, "java-c")));
            for (String name : new String[] {"a", "b", "c"}) check(channel.basicGet("java-" + name, true) == null, name);
            channel.queueUnbind("java-a", "java-topic", "#.end");
            channel.exchangeUnbind("java-topic", "java-first", "over");
            channel.exchangeDelete("java-topic");
        }
    }

    static void queues() throws Exception {
        try (Connection connection = factory().newConnection(); Channel channel = connection.createChannel()) {
            for (String name : new String[] {"java-dead", "java-work", "java-levels", "java-single", "java-short"}) channel.queueDelete(name);
            channel.queueDeclare("java-dead", true, false, false, null);
            Map<String, Object> arguments = new HashMap<>();
            arguments.put("x-message-ttl", 100L);               // Java's long
            arguments.put("x-dead-letter-exchange", "");
            arguments.put("x-dead-letter-routing-key", "java-dead");
            channel.queueDeclare("java-work", true, false, false, arguments);
            arguments.put("x-message-ttl", 100);                // and int: the same
            channel.queueDeclare("java-work", true, false, false, arguments);
            channel.basicPublish("", "java-work", null, "late".getBytes());
            GetResponse dead = get(channel, "java-dead");
            Map<?, ?> death = (Map<?, ?>) ((List<?>) dead.getProps().getHeaders().get("x-death")).get(0);
            same("java-work expired 1", death.get("queue") + " " + death.get("reason") + " " + death.get("count"));
            channel.queueDeclare("java-levels", true, false, false, Collections.singletonMap("x-max-priority", 10));
            channel.confirmSelect();
            for (int level : new int[] {1, 9, 5}) channel.basicPublish("", "java-levels", new AMQP.BasicProperties.Builder().priority(level).build(), ("" + level).getBytes());
            check(channel.waitForConfirms(WAIT_S * 1000), "confirmed");
            same("951", text(get(channel, "java-levels")) + text(get(channel, "java-levels")) + text(get(channel, "java-levels")));
            Map<String, Object> limits = new HashMap<>();
            limits.put("x-max-length", 2);
            limits.put("x-overflow", "reject-publish");
            channel.queueDeclare("java-short", true, false, false, limits);
            for (int number = 0; number < 2; number++) {
                channel.basicPublish("", "java-short", null, new byte[1]);
                check(channel.waitForConfirms(WAIT_S * 1000), "there is room");
            }
            channel.basicPublish("", "java-short", null, new byte[1]);
            check(!channel.waitForConfirms(WAIT_S * 1000), "there is none");
            channel.queueDeclare("java-single", true, false, false, Collections.singletonMap("x-single-active-consumer", true));
            AtomicInteger first = new AtomicInteger(), second = new AtomicInteger();
            String tag = channel.basicConsume("java-single", true, (consumer, delivery) -> first.incrementAndGet(), consumer -> { });
            channel.basicConsume("java-single", true, (consumer, delivery) -> second.incrementAndGet(), consumer -> { });
            for (int number = 0; number < 5; number++) channel.basicPublish("", "java-single", null, new byte[1]);
            for (int count = 0; count < WAIT_S * 50 && first.get() < 5; count++) Thread.sleep(20);
            same("5 0", first + " " + second);
            channel.basicCancel(tag);
            channel.basicPublish("", "java-single", null, new byte[1]);
            for (int count = 0; count < WAIT_S * 50 && second.get() < 1; count++) Thread.sleep(20);
            same("5 1", first + " " + second);
        }
    }

    static void rpc() throws Exception {
        try (Connection server = factory().newConnection(); Channel answers = server.createChannel();
             Connection client = factory().newConnection(); Channel asks = client.createChannel()) {
            answers.queueDeclare("java-rpc", false, false, true, null);
            answers.basicConsume("java-rpc", true, (tag, delivery) -> answers.basicPublish(
                "", delivery.getProperties().getReplyTo(),
                new AMQP.BasicProperties.Builder().correlationId(delivery.getProperties().getCorrelationId()).build(),
                ("re: " + new String(delivery.getBody())).getBytes()), tag -> { });
            RpcClient rpc = new RpcClient(new RpcClientParams().channel(asks).exchange("").routingKey("java-rpc").timeout(WAIT_S * 1000));
            for (int number = 0; number < 200; number++) same("re: " + number, rpc.stringCall("" + number));
            rpc.close();
        }
    }

    static void transactions() throws Exception {
        try (Connection connection = factory().newConnection(); Channel channel = connection.createChannel()) {
            channel.queueDeclare("java-tx", true, false, false, null);
            channel.queuePurge("java-tx");
            channel.txSelect();
            channel.basicPublish("", "java-tx", null, "no".getBytes());
            channel.txRollback();
            channel.basicPublish("", "java-tx", null, "yes".getBytes());
            same(0, channel.messageCount("java-tx"));
            channel.txCommit();
            same(1, channel.messageCount("java-tx"));
            GetResponse found = channel.basicGet("java-tx", false);
            channel.basicAck(found.getEnvelope().getDeliveryTag(), false);
            channel.txRollback();
            channel.basicAck(found.getEnvelope().getDeliveryTag(), false);
            channel.txCommit();
        }
        try (Connection connection = factory().newConnection(); Channel channel = connection.createChannel()) {
            same(0, channel.messageCount("java-tx"));
        }
    }

    /** As Spring AMQP's listener container and admin do it: a passive declare, a channel that is closed for it, all declared anew. */
    static void spring(int rounds) throws Exception {
        try (Connection connection = factory().newConnection("spring")) {
            for (int round = 0; round < rounds; round++) {
                String queue = "java-spring-" + round % 3;
                Channel channel = connection.createChannel();
                try {
                    channel.queueDeclarePassive(queue);
                } catch (IOException missing) {
                    same(404, ((AMQP.Channel.Close) ((ShutdownSignalException) missing.getCause()).getReason()).getReplyCode());
                    check(!channel.isOpen(), "closed");
                    channel = connection.createChannel();
                    channel.exchangeDeclare("java-spring", "direct", true, false, new HashMap<>());
                    channel.queueDeclare(queue, false, false, true, new HashMap<>());       // gone with its consumer
                    channel.queueBind(queue, "java-spring", queue, new HashMap<>());
                    channel.queueDeclarePassive(queue);
                }
                channel.basicQos(250);
                BlockingQueue<String> found = new LinkedBlockingQueue<>();
                Channel own = channel;
                String tag = channel.basicConsume(queue, false, "", false, false, new HashMap<>(), new DefaultConsumer(channel) {
                    @Override public void handleDelivery(String consumerTag, Envelope envelope, AMQP.BasicProperties properties, byte[] body) throws IOException {
                        own.basicAck(envelope.getDeliveryTag(), false);
                        found.add(new String(body));
                    }
                });
                try (Channel template = connection.createChannel()) {
                    check(template.queueDeclarePassive("amq.rabbitmq.reply-to") != null, "direct reply-to is there");
                    template.confirmSelect();
                    template.basicPublish("java-spring", queue, true, false, null, ("round " + round).getBytes());
                    check(template.waitForConfirms(WAIT_S * 1000), "confirmed");
                }
                same("round " + round, found.poll(WAIT_S, TimeUnit.SECONDS));
                channel.basicCancel(tag);
                channel.close();
            }
        }
    }

    /** Publishes with confirms and consumes while the node is killed so many times; what was confirmed is there. */
    static void recovery(int kills) throws Exception {
        ConnectionFactory factory = factory();
        check(factory.isAutomaticRecoveryEnabled() && factory.isTopologyRecoveryEnabled(), "the defaults of this client");
        Set<Integer> confirmed = new ConcurrentSkipListSet<>(), seen = new ConcurrentSkipListSet<>();
        AtomicBoolean going = new AtomicBoolean(true);
        AtomicInteger recovered = new AtomicInteger();
        try (Connection connection = factory.newConnection("recovery")) {
            RecoveryListener listener = new RecoveryListener() {
                @Override public void handleRecovery(Recoverable recoverable) { recovered.incrementAndGet(); }
                @Override public void handleRecoveryStarted(Recoverable recoverable) { }
            };
            ((Recoverable) connection).addRecoveryListener(listener);
            Channel reads = connection.createChannel();
            reads.exchangeDeclare("java-recovery", "topic", false, true, null);     // neither outlives the node
            String replies = reads.queueDeclare().getQueue();
            reads.queueBind(replies, "java-recovery", "news.#");
            reads.queueDeclare("java-recovery", true, false, false, null);
            reads.exchangeDeclare("java-recovery-work", "topic", true);
            reads.queueBind("java-recovery", "java-recovery-work", "work.#");
            BlockingQueue<String> news = new LinkedBlockingQueue<>();
            reads.basicConsume(replies, true, (tag, delivery) -> news.add(new String(delivery.getBody())), tag -> { });
            reads.basicQos(50);
            reads.basicConsume("java-recovery", false, (tag, delivery) -> {
                seen.add(Integer.parseInt(new String(delivery.getBody())));
                try {
                    reads.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
                } catch (IOException | AlreadyClosedException gone) {
                    // it comes again
                }
            }, tag -> { });
            Channel writes = connection.createChannel();
            writes.confirmSelect();
            Thread publisher = new Thread(() -> {
                for (int number = 0; going.get(); number++) {
                    try {
                        writes.basicPublish("java-recovery-work", "work.item", new AMQP.BasicProperties.Builder().deliveryMode(2).build(), ("" + number).getBytes());
                        if (writes.waitForConfirms(10_000)) confirmed.add(number);
                    } catch (Exception gone) {
                        try { Thread.sleep(10); } catch (InterruptedException end) { return; }
                    }
                }
            });
            publisher.start();
            for (int round = 1; round <= kills; round++) {
                int before = confirmed.size();
                for (int count = 0; count < WAIT_S * 50 && confirmed.size() < before + 100; count++) Thread.sleep(20);
                check(confirmed.size() >= before + 100, "publishes");
                say("kill");
                for (int count = 0; count < WAIT_S * 100 && recovered.get() < round; count++) Thread.sleep(20);
                same(round, recovered.get());
                news.clear();
                for (int count = 0; count < 100 && news.isEmpty(); count++) {
                    try (Channel channel = connection.createChannel()) {
                        channel.basicPublish("java-recovery", "news.now", null, ("round " + round).getBytes());
                    } catch (ShutdownSignalException early) {
                        // the exchange is not back yet
                    }
                    Thread.sleep(50);
                }
                check(news.contains("round " + round), "the queue named by the server, its binding and its consumer are back");
            }
            going.set(false);
            publisher.join(WAIT_S * 1000);
            for (int count = 0; count < WAIT_S * 50 && !seen.containsAll(confirmed); count++) Thread.sleep(20);
            Set<Integer> lost = new TreeSet<>(confirmed);
            lost.removeAll(seen);
            check(lost.isEmpty(), "lost: " + lost);
        }
    }
}
