/** A member of a group that copies a topic in transactions until it is killed. Arguments: address, protocol, group, source, target. */

import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.UUID;
import java.util.List;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public class KafkaRelay {
    public static void main(String[] words) {
        String address = words[0], protocol = words[1], group = words[2], source = words[3], target = words[4];
        Map<String, Object> options = new HashMap<>();
        options.put("bootstrap.servers", address);
        options.put("group.id", group);
        options.put("group.protocol", protocol);
        options.put("auto.offset.reset", "earliest");
        options.put("enable.auto.commit", false);
        options.put("isolation.level", "read_committed");
        if (protocol.equals("classic")) {
            options.put("session.timeout.ms", 6_000);
            options.put("heartbeat.interval.ms", 300);
        }
        KafkaConsumer<byte[], byte[]> reader =
            new KafkaConsumer<>(options, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        reader.subscribe(List.of(source));
        KafkaProducer<byte[], byte[]> writer = writer(address);
        while (true) {
            ConsumerRecords<byte[], byte[]> records = reader.poll(Duration.ofMillis(100));
            if (records.isEmpty()) {
                continue;
            }
            try {
                writer.beginTransaction();
                Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
                for (ConsumerRecord<byte[], byte[]> record : records) {
                    writer.send(new ProducerRecord<>(target, record.key(), record.value()));
                    offsets.put(new TopicPartition(record.topic(), record.partition()),
                        new OffsetAndMetadata(record.offset() + 1));
                }
                writer.sendOffsetsToTransaction(offsets, reader.groupMetadata());
                writer.commitTransaction();
            } catch (KafkaException error) {
                System.out.println("went back: " + error);
                try {
                    writer.abortTransaction();
                } catch (KafkaException fatal) {
                    writer.close(Duration.ZERO);
                    writer = writer(address);
                }
                for (Map.Entry<TopicPartition, OffsetAndMetadata> place
                        : reader.committed(reader.assignment()).entrySet()) {
                    reader.seek(place.getKey(), place.getValue() == null ? 0 : place.getValue().offset());
                }
            }
        }
    }

    static KafkaProducer<byte[], byte[]> writer(String address) {
        Map<String, Object> options = new HashMap<>();
        options.put("bootstrap.servers", address);
        options.put("transactional.id", UUID.randomUUID().toString());
        options.put("transaction.timeout.ms", 5_000);
        KafkaProducer<byte[], byte[]> made =
            new KafkaProducer<>(options, new ByteArraySerializer(), new ByteArraySerializer());
        made.initTransactions();
        return made;
    }
}
