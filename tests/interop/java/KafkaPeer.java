// Apache Kafka's Java client against a broker: java -cp 'jars/*' KafkaPeer.java BOOTSTRAP
// Reads scenarios from standard input, one a line, and answers each with "ok NAME" or a stack trace and "failed NAME".
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BooleanSupplier;
import java.util.regex.Pattern;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public class KafkaPeer {
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
        String protocol = words.length > 1 ? words[1] : "classic";
        switch (words[0]) {
            case "values": values(words[1]); break;
            case "group": group(protocol); break;
            case "statics": statics(protocol); break;
            case "pattern": pattern(protocol); break;
            case "administration": administration(); break;
            case "times": times(); break;
            case "recreated": recreated(protocol); break;
            case "transactions": transactions(protocol); break;
            case "member": member(protocol, words[2], words[3]); break;
            default: throw new IllegalArgumentException(words[0]);
        }
    }

    // -- small things --------------------------------------------------------------------------------------------

    static String unique(String label) {
        return "java." + label + "." + ProcessHandle.current().pid() + "." + (++number);
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

    static byte[] bytes(String text) {
        return text == null ? null : text.getBytes();
    }

    static String text(byte[] data) {
        return data == null ? null : new String(data);
    }

    static Map<String, Object> with(Object... pairs) {
        Map<String, Object> found = new HashMap<>();
        found.put("bootstrap.servers", bootstrap);
        for (int at = 0; at < pairs.length; at += 2) {
            found.put((String) pairs[at], pairs[at + 1]);
        }
        return found;
    }

    static KafkaProducer<byte[], byte[]> producer(Object... options) {
        return new KafkaProducer<>(with(options), new ByteArraySerializer(), new ByteArraySerializer());
    }

    static KafkaConsumer<byte[], byte[]> consumer(String protocol, String group, Object... options) {
        Map<String, Object> found = with(options);
        found.put("auto.offset.reset", "earliest");
        found.put("metadata.max.age.ms", 500);
        found.put("allow.auto.create.topics", false);
        if (group != null) {
            found.put("group.id", group);
            found.put("group.protocol", protocol);
            if (protocol.equals("classic")) {
                found.put("session.timeout.ms", 6_000);
                found.put("heartbeat.interval.ms", 300);
            }
        }
        return new KafkaConsumer<>(found, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static String topic(int partitions, String... configs) throws Exception {
        String name = unique("topic");
        try (Admin admin = Admin.create(with())) {
            create(admin, name, partitions, configs);
        }
        return name;
    }

    static void create(Admin admin, String name, int partitions, String... configs) throws Exception {
        Map<String, String> found = new HashMap<>();
        for (int at = 0; at < configs.length; at += 2) {
            found.put(configs[at], configs[at + 1]);
        }
        admin.createTopics(List.of(new NewTopic(name, partitions, (short) 1).configs(found))).all().get();
    }

    static void produce(String topic, String label, int count) throws Exception {
        try (KafkaProducer<byte[], byte[]> producer = producer()) {
            for (int n = 0; n < count; n++) {
                producer.send(new ProducerRecord<>(topic, bytes("" + n), bytes(label + "-" + n)));
            }
        }
    }

    static List<ConsumerRecord<byte[], byte[]>> read(KafkaConsumer<byte[], byte[]> consumer, int count) {
        List<ConsumerRecord<byte[], byte[]>> found = new ArrayList<>();
        long end = System.currentTimeMillis() + DEADLINE_MS;
        while (found.size() < count) {
            check(System.currentTimeMillis() < end, found.size() + " of " + count + " records came");
            consumer.poll(Duration.ofMillis(200)).forEach(found::add);
        }
        return found;
    }

    static Set<String> labels(String label, int count) {
        Set<String> found = new HashSet<>();
        for (int n = 0; n < count; n++) {
            found.add(label + "-" + n);
        }
        return found;
    }

    /** One consumer of a group on a thread of its own; commits what it has read. */
    static class Member extends Thread {
        final KafkaConsumer<byte[], byte[]> consumer;
        final Collection<String> found;
        volatile Set<Integer> partitions = Set.of();
        volatile boolean leaves = false;
        volatile Throwable wrong;

        Member(KafkaConsumer<byte[], byte[]> consumer, String topic, Collection<String> found) {
            this.consumer = consumer;
            this.found = found;
            consumer.subscribe(List.of(topic));
            setDaemon(true);
            start();
        }

        @Override
        public void run() {
            try {
                while (!leaves) {
                    for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                        found.add(text(record.value()));
                    }
                    Set<Integer> now = new TreeSet<>();
                    consumer.assignment().forEach(place -> now.add(place.partition()));
                    partitions = now;
                    try {
                        consumer.commitSync();
                    } catch (org.apache.kafka.clients.consumer.CommitFailedException | RebalanceInProgressException error) {
                        // it has lost the partition meanwhile: the other one reads it again
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

    static boolean equalParts(List<Member> members, int size) {
        return members.stream().allMatch(member -> member.partitions.size() == size);
    }

    // -- scenarios -----------------------------------------------------------------------------------------------

    /** Keys, values, headers and nulls come back as they were. */
    static void values(String codec) throws Exception {
        String topic = topic(1);
        List<String[]> sent = new ArrayList<>(List.of(
            new String[]{null, "no key"}, new String[]{"k", null}, new String[]{"", ""}));
        for (int n = 0; n < 300; n++) {
            sent.add(new String[]{"" + n, ("value " + n + " ").repeat(20)});
        }
        try (KafkaProducer<byte[], byte[]> producer = producer("compression.type", codec, "linger.ms", 20)) {
            List<java.util.concurrent.Future<RecordMetadata>> acks = new ArrayList<>();
            for (String[] pair : sent) {
                ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(topic, bytes(pair[0]), bytes(pair[1]));
                record.headers().add("h", new byte[]{(byte) 0xff}).add("null", null).add("", new byte[0]);
                acks.add(producer.send(record));
            }
            for (int n = 0; n < sent.size(); n++) {
                equal(acks.get(n).get().offset(), (long) n);
            }
        }
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("classic", null)) {
            consumer.assign(List.of(new TopicPartition(topic, 0)));
            consumer.seekToBeginning(consumer.assignment());
            List<ConsumerRecord<byte[], byte[]>> found = read(consumer, sent.size());
            for (int n = 0; n < sent.size(); n++) {
                ConsumerRecord<byte[], byte[]> record = found.get(n);
                equal(Arrays.asList(text(record.key()), text(record.value())), Arrays.asList(sent.get(n)));
                Header[] headers = record.headers().toArray();
                check(headers.length == 3 && headers[0].value()[0] == (byte) 0xff && headers[1].value() == null
                      && headers[2].key().isEmpty() && headers[2].value().length == 0, "headers");
            }
        }
    }

    /** A group grows to 3 members and shrinks again: no record is lost, and the last one has all partitions. */
    static void group(String protocol) throws Exception {
        String topic = topic(6), group = unique("group");
        Collection<String> found = new ConcurrentLinkedQueue<>();
        Set<String> expected = new HashSet<>();
        List<Member> members = new ArrayList<>();
        for (int size : new int[]{1, 2, 3}) {
            members.add(new Member(consumer(protocol, group), topic, found));
            until(() -> equalParts(members, 6 / size), size + " members with equal parts");
            produce(topic, "joined" + size, 60);
            expected.addAll(labels("joined" + size, 60));
        }
        try (Admin admin = Admin.create(with())) {
            var described = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
            equal(described.members().size(), 3);
            equal(described.groupState().toString(), "Stable");
            equal(described.type().toString().toLowerCase(), protocol);
        }
        while (members.size() > 1) {
            members.remove(0).leave();
            until(() -> equalParts(members, 6 / members.size()), "the parts of who has left");
            produce(topic, "left" + members.size(), 60);
            expected.addAll(labels("left" + members.size(), 60));
        }
        until(() -> new HashSet<>(found).equals(expected), "all is read");
        members.get(0).leave();
        try (Admin admin = Admin.create(with())) {
            long sum = 0;
            for (OffsetAndMetadata offset : admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().values()) {
                sum += offset.offset();
            }
            equal(sum, (long) expected.size());
            admin.deleteConsumerGroups(List.of(group)).all().get();
        }
    }

    /** A static member that starts again has what it had. */
    static void statics(String protocol) throws Exception {
        String topic = topic(2), group = unique("group");
        Collection<String> found = new ConcurrentLinkedQueue<>();
        Member first = new Member(consumer(protocol, group, "group.instance.id", "a"), topic, found);
        Member second = new Member(consumer(protocol, group, "group.instance.id", "b"), topic, found);
        until(() -> first.partitions.size() == 1 && second.partitions.size() == 1, "both have a part");
        Set<Integer> before = second.partitions;
        second.leave();
        Member again = new Member(consumer(protocol, group, "group.instance.id", "b"), topic, found);
        until(() -> again.partitions.equals(before), "it has what it had");
        produce(topic, "late", 20);
        until(() -> found.size() == 20, "all is read");
        first.leave();
        again.leave();
    }

    /** A member that subscribes to a pattern; with the newer protocol, the broker knows the pattern (RE2). */
    static void pattern(String protocol) throws Exception {
        String prefix = unique("pattern");
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(protocol, unique("group"));
             Admin admin = Admin.create(with())) {
            create(admin, prefix + ".one", 1);
            if (protocol.equals("consumer")) {
                consumer.subscribe(new SubscriptionPattern(prefix.replace(".", "\\.") + ".*"));
            } else {
                consumer.subscribe(Pattern.compile(Pattern.quote(prefix) + ".*"));
            }
            produce(prefix + ".one", "one", 3);
            read(consumer, 3);
            create(admin, prefix + ".two", 1);
            produce(prefix + ".two", "two", 3);
            read(consumer, 3);
        }
    }

    static void administration() throws Exception {
        String topic = topic(2, "cleanup.policy", "compact", "segment.bytes", "1048576"), group = unique("group");
        produce(topic, "a", 20);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("classic", group)) {
            consumer.subscribe(List.of(topic));
            read(consumer, 20);
            consumer.commitSync();
        }
        try (Admin admin = Admin.create(with())) {
            var cluster = admin.describeCluster();
            equal(cluster.nodes().get().size(), 1);
            equal(cluster.controller().get().id(), cluster.nodes().get().iterator().next().id());
            check(!cluster.clusterId().get().isEmpty(), "a cluster id");
            ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
            var config = admin.describeConfigs(List.of(resource)).all().get().get(resource);
            equal(config.get("cleanup.policy").value(), "compact");
            equal(config.get("segment.bytes").value(), "1048576");
            admin.incrementalAlterConfigs(Map.of(resource, List.of(new AlterConfigOp(
                new ConfigEntry("max.message.bytes", "2000"), AlterConfigOp.OpType.SET)))).all().get();
            config = admin.describeConfigs(List.of(resource)).all().get().get(resource);
            equal(config.get("max.message.bytes").value(), "2000");
            ConfigResource broker = new ConfigResource(ConfigResource.Type.BROKER, "1");
            check(admin.describeConfigs(List.of(broker)).all().get().get(broker).get("default.replication.factor") != null,
                  "the broker's configuration");
            admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(4))).all().get();
            var described = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
            equal(described.partitions().size(), 4);
            check(!described.topicId().toString().equals("AAAAAAAAAAAAAAAAAAAAAA"), "a topic id");
            check(admin.listTopics().names().get().contains(topic), "listed");
            check(admin.listGroups().all().get().stream().anyMatch(row -> row.groupId().equals(group)), "a group");
            equal(admin.describeConsumerGroups(List.of(group)).all().get().get(group).groupState().toString(), "Empty");
            TopicPartition place = new TopicPartition(topic, 0);
            long latest = admin.listOffsets(Map.of(place, OffsetSpec.latest())).all().get().get(place).offset();
            equal(admin.deleteRecords(Map.of(place, RecordsToDelete.beforeOffset(latest))).lowWatermarks().get(place).get()
                  .lowWatermark(), latest);
            equal(admin.listOffsets(Map.of(place, OffsetSpec.earliest())).all().get().get(place).offset(), latest);
            check(admin.describeLogDirs(List.of(1)).allDescriptions().get().get(1).values().stream().anyMatch(
                row -> row.replicaInfos().containsKey(place)), "log dirs");
            admin.alterConsumerGroupOffsets(group, Map.of(place, new OffsetAndMetadata(0, "note"))).all().get();
            equal(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(place).metadata(), "note");
            admin.deleteConsumerGroupOffsets(group, Set.of(place)).all().get();
            check(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(place) == null, "deleted");
            admin.deleteConsumerGroups(List.of(group)).all().get();
            admin.deleteTopics(List.of(topic)).all().get();
            check(!admin.listTopics().names().get().contains(topic), "not listed any more");
            try {
                admin.describeTopics(List.of(topic)).allTopicNames().get();
                check(false, "a topic that is gone is described");
            } catch (ExecutionException error) {
                check(error.getCause() instanceof org.apache.kafka.common.errors.UnknownTopicOrPartitionException, error);
            }
        }
    }

    static void times() throws Exception {
        String topic = topic(1);
        TopicPartition place = new TopicPartition(topic, 0);
        try (KafkaProducer<byte[], byte[]> producer = producer()) {
            for (int n = 0; n < 10; n++) {
                producer.send(new ProducerRecord<>(topic, 0, 1_000_000L + n * 1_000L, null, bytes("" + n))).get();
            }
        }
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("classic", null); Admin admin = Admin.create(with())) {
            consumer.assign(List.of(place));
            OffsetAndTimestamp found = consumer.offsetsForTimes(Map.of(place, 1_003_500L)).get(place);
            equal(found.offset(), 4L);
            equal(found.timestamp(), 1_004_000L);
            equal(consumer.beginningOffsets(List.of(place)).get(place), 0L);
            equal(consumer.endOffsets(List.of(place)).get(place), 10L);
            equal(admin.listOffsets(Map.of(place, OffsetSpec.maxTimestamp())).all().get().get(place).offset(), 9L);
            consumer.seek(place, 7);
            equal(text(read(consumer, 1).get(0).value()), "7");
        }
    }

    /** A topic is deleted and made again under a running consumer, which goes on with the new one. */
    static void recreated(String protocol) throws Exception {
        String topic = topic(2);
        Collection<String> found = new ConcurrentLinkedQueue<>();
        Member member = new Member(consumer(protocol, unique("group")), topic, found);
        produce(topic, "old", 40);
        until(() -> found.size() == 40, "the old one is read");
        try (Admin admin = Admin.create(with())) {
            var before = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).topicId();
            admin.deleteTopics(List.of(topic)).all().get();
            Thread.sleep(300);
            create(admin, topic, 2);
            var after = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).topicId();
            check(!before.equals(after), "the id of a topic comes again");
        }
        long end = System.currentTimeMillis() + DEADLINE_MS;
        while (found.stream().noneMatch(value -> value.startsWith("new"))) {    // where it goes on depends on when it looked
            check(System.currentTimeMillis() < end, "waited for: the new one is read: " + member.partitions);
            produce(topic, "new", 20);
            Thread.sleep(100);
        }
        member.leave();
    }

    static void transactions(String protocol) throws Exception {
        String source = topic(1), target = topic(2), group = unique("group"), id = unique("id");
        produce(source, "input", 1);
        KafkaConsumer<byte[], byte[]> reader = consumer(protocol, group, "enable.auto.commit", false);
        reader.subscribe(List.of(source));
        read(reader, 1);
        KafkaProducer<byte[], byte[]> producer = producer("transactional.id", id);
        producer.initTransactions();
        for (int n = 1; n <= 3; n++) {
            producer.beginTransaction();
            for (int partition : new int[]{0, 1}) {
                producer.send(new ProducerRecord<>(target, partition, null, bytes("" + n)));
            }
            if (n == 3) {
                producer.sendOffsetsToTransaction(Map.of(new TopicPartition(source, 0), new OffsetAndMetadata(1)),
                                                  reader.groupMetadata());
            }
            if (n == 2) {
                producer.flush();
                producer.abortTransaction();
            } else {
                producer.commitTransaction();
            }
        }
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(protocol, unique("group"), "isolation.level", "read_committed")) {
            consumer.subscribe(List.of(target));
            List<String> seen = new ArrayList<>();
            read(consumer, 4).forEach(record -> seen.add(text(record.value())));
            Collections.sort(seen);
            equal(seen, List.of("1", "1", "3", "3"));
            check(consumer.poll(Duration.ofMillis(500)).isEmpty(), "nothing of what was aborted");
        }
        equal(reader.committed(Set.of(new TopicPartition(source, 0))).get(new TopicPartition(source, 0)).offset(), 1L);
        reader.close();
        producer.beginTransaction();
        producer.send(new ProducerRecord<>(target, 0, null, bytes("lost"))).get();
        try (Admin admin = Admin.create(with())) {
            TopicPartition place = new TopicPartition(target, 0);
            var open = admin.describeProducers(List.of(place)).all().get().get(place).activeProducers();
            check(open.stream().anyMatch(state -> state.currentTransactionStartOffset().isPresent()), "an open one: " + open);
            equal(admin.describeTransactions(List.of(id)).all().get().get(id).state().toString(), "Ongoing");
            check(admin.listTransactions().all().get().stream().anyMatch(row -> row.transactionalId().equals(id)), "listed");
        }
        try (KafkaProducer<byte[], byte[]> other = producer("transactional.id", id)) {
            other.initTransactions();
            try {
                producer.commitTransaction();
                check(false, "the first producer is not fenced");
            } catch (ProducerFencedException | org.apache.kafka.common.errors.InvalidProducerEpochException error) {
                // as it should be
            }
        }
        producer.close(Duration.ZERO);
    }

    /** One member of a group until it is killed: says what it has read. */
    static void member(String protocol, String group, String topic) throws Exception {
        KafkaConsumer<byte[], byte[]> consumer = consumer(protocol, group, "enable.auto.commit", false);
        consumer.subscribe(List.of(topic));
        while (true) {
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                System.out.println("read " + text(record.value()));
            }
            try {
                consumer.commitSync();
            } catch (org.apache.kafka.clients.consumer.CommitFailedException | RebalanceInProgressException error) {
                // it has lost the partition meanwhile: who has it now reads the records again
            }
        }
    }
}
