// Apache Kafka's Java share consumer (KIP-932) against a broker: java -cp 'jars/*' SharePeer.java BOOTSTRAP
// Reads scenarios from standard input, one a line, and answers each with "ok NAME" or a stack trace and "failed NAME".
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.function.BooleanSupplier;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ListShareGroupOffsetsSpec;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.AcknowledgeType;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicIdPartition;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public class SharePeer {
    static final long DEADLINE_MS = 50_000;
    static String bootstrap;
    static int number = 0;

    public static void main(String[] arguments) throws Exception {
        bootstrap = arguments[0];
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            String[] words = line.trim().split(" ");
            try {
                run(words);
                System.out.println("ok " + words[0]);
            } catch (Throwable error) {
                error.printStackTrace(System.out);
                System.out.println("failed " + words[0]);
            }
            System.out.flush();
        }
    }

    static void run(String[] words) throws Exception {
        switch (words[0]) {
            case "implicit": implicit(words[1]); break;
            case "explicit": explicit(); break;
            case "lock": lock(); break;
            case "limit": limit(); break;
            case "topics": topics(); break;
            case "administration": administration(); break;
            case "make": make(words[1], words[2]); break;
            case "produce": produce(words[1], words[2], Integer.parseInt(words[3])); break;
            case "member": member(words[1], words[2]); break;
            default: throw new IllegalArgumentException(words[0]);
        }
    }

    // -- small things --------------------------------------------------------------------------------------------

    static String unique(String label) {
        return "share." + label + "." + ProcessHandle.current().pid() + "." + (++number);
    }

    static void check(boolean good, Object what) {
        if (!good) {
            throw new AssertionError(what);
        }
    }

    static void equal(Object found, Object expected) {
        check(expected.equals(found), "expected " + expected + ", found " + found);
    }

    static void until(BooleanSupplier condition, Object what) throws InterruptedException {
        long end = System.currentTimeMillis() + DEADLINE_MS;
        while (!condition.getAsBoolean()) {
            check(System.currentTimeMillis() < end, "waited for: " + what);
            Thread.sleep(20);
        }
    }

    static Map<String, Object> with(Object... pairs) {
        Map<String, Object> found = new HashMap<>();
        found.put("bootstrap.servers", bootstrap);
        for (int at = 0; at < pairs.length; at += 2) {
            found.put((String) pairs[at], pairs[at + 1]);
        }
        return found;
    }

    static String text(byte[] data) {
        return new String(data);
    }

    static KafkaShareConsumer<byte[], byte[]> consumer(String group, boolean explicit, String... topics) {
        Map<String, Object> found = with("group.id", group, "metadata.max.age.ms", 500, "allow.auto.create.topics", false,
                                         "share.acknowledgement.mode", explicit ? "explicit" : "implicit");
        KafkaShareConsumer<byte[], byte[]> consumer =
            new KafkaShareConsumer<>(found, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        consumer.subscribe(List.of(topics));
        return consumer;
    }

    /** A group that begins at the first record, and whose records are locked for so long. */
    static void make(String group, String lockMs) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.GROUP, group);
        try (Admin admin = Admin.create(with())) {
            admin.incrementalAlterConfigs(Map.of(resource, List.of(
                new AlterConfigOp(new ConfigEntry("share.auto.offset.reset", "earliest"), AlterConfigOp.OpType.SET),
                new AlterConfigOp(new ConfigEntry("share.record.lock.duration.ms", lockMs), AlterConfigOp.OpType.SET)
            ))).all().get();
            equal(admin.describeConfigs(List.of(resource)).all().get().get(resource)
                      .get("share.record.lock.duration.ms").value(), lockMs);
        }
    }

    static String group(String lockMs) throws Exception {
        String group = unique("group");
        make(group, lockMs);
        return group;
    }

    static String topic(int partitions) throws Exception {
        String name = unique("topic");
        try (Admin admin = Admin.create(with())) {
            admin.createTopics(List.of(new NewTopic(name, partitions, (short) 1))).all().get();
        }
        return name;
    }

    static void produce(String topic, String label, int count) throws Exception {
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(
                with("compression.type", "lz4", "linger.ms", 5), new ByteArraySerializer(), new ByteArraySerializer())) {
            for (int n = 0; n < count; n++) {
                producer.send(new ProducerRecord<>(topic, ("" + n).getBytes(), (label + "-" + n).getBytes()));
            }
        }
    }

    static List<ConsumerRecord<byte[], byte[]>> poll(KafkaShareConsumer<byte[], byte[]> consumer) {
        List<ConsumerRecord<byte[], byte[]>> found = new ArrayList<>();
        long end = System.currentTimeMillis() + DEADLINE_MS;
        while (found.isEmpty()) {
            check(System.currentTimeMillis() < end, "nothing came");
            consumer.poll(Duration.ofMillis(200)).forEach(found::add);
        }
        return found;
    }

    static void stored(Map<TopicIdPartition, Optional<KafkaException>> outcome) {
        outcome.forEach((place, error) -> check(error.isEmpty(), place + ": " + error));
    }

    /** One consumer of a group on a thread of its own; what it polls counts as done with the next poll. */
    static class Member extends Thread {
        final KafkaShareConsumer<byte[], byte[]> consumer;
        final ConcurrentLinkedQueue<String> found = new ConcurrentLinkedQueue<>();
        volatile boolean leaves = false;
        volatile Throwable wrong;

        Member(KafkaShareConsumer<byte[], byte[]> consumer) {
            this.consumer = consumer;
            setDaemon(true);
            start();
        }

        @Override
        public void run() {
            try {
                while (!leaves) {
                    for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                        equal((int) record.deliveryCount().get(), 1);
                        found.add(text(record.value()));
                    }
                }
                consumer.close();
            } catch (Throwable error) {
                wrong = error;
                error.printStackTrace(System.out);
            }
        }

        void leave() throws InterruptedException {
            leaves = true;
            join(DEADLINE_MS);
            check(!isAlive() && wrong == null, "a member ended badly: " + wrong);
        }
    }

    // -- scenarios -----------------------------------------------------------------------------------------------

    /** More members than partitions share the records: each comes once, to one of them. */
    static void implicit(String partitions) throws Exception {
        String topic = topic(Integer.parseInt(partitions)), group = group("30000");
        List<Member> members = new ArrayList<>();
        for (int n = 0; n < 3; n++) {
            members.add(new Member(consumer(group, false, topic)));
        }
        List<String> found = new ArrayList<>();
        for (int round = 0; round < 20; round++) {
            produce(topic, "round" + round, 100);
        }
        until(() -> members.stream().mapToInt(member -> member.found.size()).sum() >= 2_000, "all is read");
        try (Admin admin = Admin.create(with())) {
            var described = admin.describeShareGroups(List.of(group)).all().get().get(group);
            equal(described.members().size(), 3);
            equal(described.groupState().toString(), "Stable");
        }
        for (Member member : members) {
            member.leave();
            check(!member.found.isEmpty(), "one got nothing");
            found.addAll(member.found);
        }
        equal(found.size(), 2_000);
        equal(new HashSet<>(found).size(), 2_000);
        try (Admin admin = Admin.create(with())) {
            long sum = 0;
            var offsets = admin.listShareGroupOffsets(Map.of(group, new ListShareGroupOffsetsSpec()))
                .partitionsToOffsetInfo(group).get();
            for (var offset : offsets.values()) {
                sum += offset.startOffset();
                equal(offset.lag().get(), 0L);
            }
            equal(sum, 2_000L);
        }
    }

    /** Accepted ones are done, released ones come again, rejected ones do not; and a record may be kept for longer. */
    static void explicit() throws Exception {
        String topic = topic(1), group = group("2000");
        produce(topic, "r", 10);
        Map<String, Integer> counts = new HashMap<>();
        try (KafkaShareConsumer<byte[], byte[]> consumer = consumer(group, true, topic)) {
            int seen = 0;
            while (seen < 10) {
                for (ConsumerRecord<byte[], byte[]> record : poll(consumer)) {
                    int n = Integer.parseInt(text(record.key()));
                    consumer.acknowledge(record, n % 3 == 0 ? AcknowledgeType.ACCEPT
                                                 : n % 3 == 1 ? AcknowledgeType.RELEASE : AcknowledgeType.REJECT);
                    seen++;
                }
                stored(consumer.commitSync());
            }
            while (counts.size() < 3) {                     // 1, 4 and 7
                for (ConsumerRecord<byte[], byte[]> record : poll(consumer)) {
                    counts.put(text(record.key()), (int) record.deliveryCount().get());
                    consumer.acknowledge(record);
                }
                stored(consumer.commitSync());
            }
            equal(counts, Map.of("1", 2, "4", 2, "7", 2));
            check(consumer.poll(Duration.ofMillis(500)).isEmpty(), "that was all");
            produce(topic, "kept", 1);
            ConsumerRecord<byte[], byte[]> kept = poll(consumer).get(0);
            try (KafkaShareConsumer<byte[], byte[]> other = consumer(group, true, topic)) {
                for (int n = 0; n < 4; n++) {               // longer than a lock holds
                    consumer.acknowledge(kept, AcknowledgeType.RENEW);
                    stored(consumer.commitSync());
                    check(other.poll(Duration.ofMillis(800)).isEmpty(), "it is somebody's");
                    kept = poll(consumer).get(0);           // a record that was renewed is given to its holder again
                    equal((int) kept.deliveryCount().get(), 1);
                }
            }
            consumer.acknowledge(kept);
            stored(consumer.commitSync());
        }
    }

    /** Who does not answer in time loses what it has, and its answer counts no more. */
    static void lock() throws Exception {
        String topic = topic(1), group = group("1000");
        produce(topic, "r", 5);
        try (KafkaShareConsumer<byte[], byte[]> slow = consumer(group, true, topic);
             KafkaShareConsumer<byte[], byte[]> quick = consumer(group, true, topic)) {
            List<ConsumerRecord<byte[], byte[]>> had = new ArrayList<>();
            while (had.size() < 5) {
                had.addAll(poll(slow));
            }
            equal(slow.acquisitionLockTimeoutMs().get(), 1_000);
            Set<String> again = new HashSet<>();
            while (again.size() < 5) {
                for (ConsumerRecord<byte[], byte[]> record : poll(quick)) {
                    check(record.deliveryCount().get() >= 2, "it was with the other one before");
                    again.add(text(record.value()));
                    quick.acknowledge(record);
                }
                stored(quick.commitSync());
            }
            had.forEach(slow::acknowledge);
            slow.commitSync().forEach((place, error) -> check(
                error.isPresent() && error.get() instanceof org.apache.kafka.common.errors.InvalidRecordStateException,
                "too late, and nobody says so: " + error));
        }
    }

    /** A record that nobody can process is given up after some deliveries, and the others go on. */
    static void limit() throws Exception {
        String topic = topic(1), group = group("30000");
        produce(topic, "poison", 1);
        try (KafkaShareConsumer<byte[], byte[]> consumer = consumer(group, true, topic)) {
            for (int n = 1; n <= 5; n++) {
                ConsumerRecord<byte[], byte[]> record = poll(consumer).get(0);
                equal((int) record.deliveryCount().get(), n);
                consumer.acknowledge(record, AcknowledgeType.RELEASE);
                stored(consumer.commitSync());
            }
            produce(topic, "good", 1);
            ConsumerRecord<byte[], byte[]> record = poll(consumer).get(0);
            equal(text(record.value()), "good-0");
            consumer.acknowledge(record);
        }
    }

    /** Members of one group that read different topics get theirs, and a topic may come later. */
    static void topics() throws Exception {
        String one = topic(2), two = unique("topic"), group = group("30000");
        Member first = new Member(consumer(group, false, one)), second = new Member(consumer(group, false, two));
        produce(one, "one", 50);
        until(() -> first.found.size() == 50, "the first topic");
        try (Admin admin = Admin.create(with())) {
            admin.createTopics(List.of(new NewTopic(two, 1, (short) 1))).all().get();
        }
        produce(two, "two", 50);
        until(() -> second.found.size() == 50, "the second topic");
        first.leave();
        second.leave();
        check(first.found.stream().allMatch(value -> value.startsWith("one-")), "only its own topic");
        check(second.found.stream().allMatch(value -> value.startsWith("two-")), "only its own topic");
    }

    static void administration() throws Exception {
        String topic = topic(2), group = group("30000");
        produce(topic, "r", 20);
        Member member = new Member(consumer(group, false, topic));
        until(() -> member.found.size() == 20, "all is read");
        try (Admin admin = Admin.create(with())) {
            check(admin.listGroups().all().get().stream().anyMatch(
                row -> row.groupId().equals(group) && row.type().get().toString().equals("Share")), "listed");
            TopicPartition place = new TopicPartition(topic, 0);
            try {
                admin.alterShareGroupOffsets(group, Map.of(place, 0L)).all().get();
                check(false, "a group with members is moved");
            } catch (java.util.concurrent.ExecutionException error) {
                check(error.getCause() instanceof org.apache.kafka.common.errors.GroupNotEmptyException, error);
            }
            member.leave();
            admin.alterShareGroupOffsets(group, Map.of(place, 0L, new TopicPartition(topic, 1), 0L)).all().get();
            Member again = new Member(consumer(group, false, topic));
            until(() -> again.found.size() == 20, "all is read again");
            again.leave();
            admin.deleteShareGroups(List.of(group)).all().get();
            check(admin.listGroups().all().get().stream().noneMatch(row -> row.groupId().equals(group)), "gone");
        }
    }

    /** One member until it is killed: says what it gets, and what it has accepted for good. */
    static void member(String group, String topic) throws Exception {
        KafkaShareConsumer<byte[], byte[]> consumer = consumer(group, true, topic);
        while (true) {
            List<String> values = new ArrayList<>();
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                values.add(text(record.value()));
                System.out.println("read " + text(record.value()) + " " + record.deliveryCount().get());
                consumer.acknowledge(record);
            }
            boolean good = true;
            for (Optional<KafkaException> error : consumer.commitSync().values()) {
                good = good && error.isEmpty();
            }
            for (String value : values) {
                System.out.println((good ? "done " : "lost ") + value);
            }
            System.out.flush();
        }
    }
}
